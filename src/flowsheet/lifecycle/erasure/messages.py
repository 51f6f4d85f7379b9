"""Messages that name a subject or a stay, such as errors that were recorded with a run."""

from __future__ import annotations

import re
from pathlib import Path

from flowsheet.lifecycle.erasure.tables import Ids

_NAMED = re.compile(r"\b(subject|stay)((?:_id)?\W{1,3})(\d+)\b", re.IGNORECASE)
_NAMED_BYTES = re.compile(_NAMED.pattern.encode(), re.IGNORECASE)


def mentions(file: Path, ids: Ids) -> bool:
    """Whether a text or a database has a message that names one of the subjects or stays."""
    with file.open("rb") as stream:
        for line in stream:
            for kind, _, number in _NAMED_BYTES.findall(line):
                if int(number) in _select(kind.decode(), ids):
                    return True
    return False


def mask_ids(text: str, ids: Ids) -> str:
    """The message without the ids of the subjects and stays.

    >>> mask_ids("stay 17, step 3", Ids(frozenset(), frozenset({17})))
    'stay [erased], step 3'
    """

    def mask(match: re.Match[str]) -> str:
        kind, between, number = match.groups()
        is_theirs = int(number) in _select(kind, ids)
        return f"{kind}{between}{'[erased]' if is_theirs else number}"

    return _NAMED.sub(mask, text)


def _select(kind: str, ids: Ids) -> frozenset[int]:
    return ids.subjects if kind.lower() == "subject" else ids.stays
