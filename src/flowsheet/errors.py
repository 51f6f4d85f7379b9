"""Errors for the user: what is wrong, where, and what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class FlowsheetError(Exception):
    """An error that the user can fix: what is wrong, where, and what to do.

    The three parts are the ``args`` of the exception, so that it can be pickled and sent to another
    process.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, where: str | None = None, todo: str | None = None) -> None:
        super().__init__(what, where, todo)
        self.what, self.where, self.todo = what, where, todo

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.todo:
            lines.append(f"  do:    {self.todo}")
        return "\n".join(lines)


class UsageError(FlowsheetError):
    """The command or the configuration is wrong (exit code 2)."""

    exit_code = 2


class CheckFailed(FlowsheetError):
    """The data or the evidence did not pass a declared check (exit code 1)."""


class MemberLost(FlowsheetError):
    """Another process of a training group does not answer any more (exit code 1)."""


class GpuMemoryError(FlowsheetError):
    """A GPU has not the memory for a training with these parameters (exit code 1)."""


class Unreachable(FlowsheetError):
    """A server does not answer; the same call may succeed later (exit code 1)."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where there is no message.

    >>> first_line(ValueError("no such day\\nat all")), first_line(TypeError())
    ('no such day', 'TypeError')
    """
    return (str(error).splitlines() or [type(error).__name__])[0]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known word as a hint, or the list of all of them.

    >>> did_you_mean("lstn", ["gru", "lstm"])
    'did you mean "lstm"? (known: gru, lstm)'
    """
    names = sorted(known)
    nearest = get_close_matches(word, names, n=1, cutoff=0.5)
    all_names = f"known: {', '.join(names)}" if names else "none are known"
    return f'did you mean "{nearest[0]}"? ({all_names})' if nearest else all_names


_MASK = "***"
_USER_IN_URL = re.compile(r"(?<=://)[^/\s]*@")
_ODD_USER_IN_URL = re.compile(
    r"(?<=://)[^\s/@:\[]*:(?!\d{1,5}(?:[/?#\s,;:'\")\]]|$))[^\n]*?@(?=[\w.\[\]:-]+(?:[/?#\s'\"),;]|$))"
)
"""User and password with slashes or spaces; a number and then a slash is a port instead."""
_SECRET_WORDS = (
    r"passwords?|passwd|passphrase|pwd|secrets?|token|signature|credentials?|auth_string"
)
_KEY_WORDS = r"(?:api|access|account|secret|private|shared|ssh|storage)[_-]?key"
_ASSIGNED = re.compile(
    rf"(?i)((?<![\w.-])(?:[\w.-]*(?:{_SECRET_WORDS}|{_KEY_WORDS})|sig|pass|key)"
    r"[\"']?\s*[=:]\s*)(\"[^\"\n]*\"|'[^'\n]*'|[^\s&;,#'\"}\])]+)"
)
_AUTHORIZATION = re.compile(
    r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|digest)\s+)?)[^\s\"',]+"
)
_SECRET_NAME = re.compile(
    r"(?i)PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|AUTH_STRING|API_?KEY|CREDENTIAL"
    r"|_(?:KEY|PASS|PWD|SIGNATURE|SAS)S?$"
)
_MIN_SECRET_LENGTH = 6
"""Shorter values occur within words by chance: they are masked only where they stand alone."""
_SETTINGS = frozenset({"", "0", "1", "true", "false", "yes", "no", "on", "off", "none"})
"""Values of switches, such as ``USE_TOKEN=true``."""


def mask_secrets(text: str) -> str:
    """Replace secrets by ``***``.

    These are user and password in URLs, values of environment variables with names like
    ``DB_PASSWORD``, ``HF_TOKEN`` or ``SSH_KEY``, and what follows ``password=``, ``token=``,
    ``X-Amz-Signature=`` and the like.

    >>> mask_secrets("no answer from postgresql://ada:lovelace@db:5432/mlflow")
    'no answer from postgresql://***@db:5432/mlflow'
    >>> mask_secrets("GET https://host/file?sig=3f2a&part=1")
    'GET https://host/file?sig=***&part=1'
    """
    secrets = [
        value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and value.lower() not in _SETTINGS
    ]
    for secret in sorted(secrets, key=len, reverse=True):
        text = _mask_value(text, secret)
    text = _USER_IN_URL.sub(f"{_MASK}@", text)
    text = _ODD_USER_IN_URL.sub(f"{_MASK}@", text)
    text = _ASSIGNED.sub(rf"\1{_MASK}", text)
    return _AUTHORIZATION.sub(rf"\1{_MASK}", text)


def _mask_value(text: str, secret: str) -> str:
    if secret not in text:
        return text
    if len(secret) >= _MIN_SECRET_LENGTH:
        return text.replace(secret, _MASK)
    return re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", _MASK, text)
