"""Messages that name a subject or a stay, such as errors that were recorded with a run."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from flowsheet.cohort.engine.cells import find_id_number
from flowsheet.cohort.engine.locations import STAYS_PER_ADMISSION
from flowsheet.lifecycle.erasure.tables import Ids

_NAMED = re.compile(r"\b(subject|stay)((?:_id)?\W{1,3})(\d+(?:(?:, | and )\d+)*)\b", re.IGNORECASE)
"""One id, or several as in "stay 17, 18, 21"."""
_NAMED_BYTES = re.compile(_NAMED.pattern.encode(), re.IGNORECASE)
_TEXT = re.compile(r"\b(stay )([^\s,:;<\"']+)(?: #(\d{1,2})\b)?", re.IGNORECASE)
"""A stay by the text of the records, or by that of its admission and its number there."""
_TEXT_BYTES = re.compile(_TEXT.pattern.encode(), re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
_NUMBER_BYTES = re.compile(_NUMBER.pattern.encode())


def mentions(file: Path, ids: Ids) -> bool:
    """Whether a text or a database has a message that names one of the subjects or stays."""
    with file.open("rb") as stream:
        for line in stream:
            for kind, _, numbers in _NAMED_BYTES.findall(line):
                named = map(int, _NUMBER_BYTES.findall(numbers))
                if not _select(kind.decode(), ids).isdisjoint(named):
                    return True
            for _, text, place in _TEXT_BYTES.findall(line):
                if _find_stay(text.decode(errors="replace"), place.decode()) in ids.stays:
                    return True
    return False


def mask_ids(text: str, ids: Ids) -> str:
    """The message without the ids of the subjects and stays.

    >>> mask_ids("stay 17, step 3", Ids(frozenset(), frozenset({17})))
    'stay [erased], step 3'
    >>> mask_ids("stay 16, 17, ...", Ids(frozenset(), frozenset({17})))
    'stay 16, [erased], ...'
    >>> mask_ids("stay 0016 #2, step 3", Ids(frozenset(), frozenset({1602})))
    'stay [erased], step 3'
    """

    def mask(match: re.Match[str]) -> str:
        kind, between, numbers = match.groups()
        theirs = _select(kind, ids)
        masked = _NUMBER.sub(lambda n: "[erased]" if int(n[0]) in theirs else n[0], numbers)
        return f"{kind}{between}{masked}"

    def mask_text(match: re.Match[str]) -> str:
        stay, name, place = match.groups()
        return f"{stay}[erased]" if _find_stay(name, place) in ids.stays else match[0]

    return _NAMED.sub(mask, _TEXT.sub(mask_text, text))


@lru_cache(maxsize=4096)
def _find_stay(text: str, place: str | None) -> int | None:
    """The id of a stay that a message names by a text; None for what ``_NAMED`` finds."""
    number = find_id_number(text)
    if place and number is not None:
        return number * STAYS_PER_ADMISSION + int(place)
    return None if text.isdigit() else number


def redact_log(file: Path, ids: Ids) -> None:
    """Mask the ids in a log, to which a server may be appending.

    Raises:
        OSError: the file cannot be written.
    """
    with file.open("r+", encoding="utf-8", errors="surrogateescape", newline="") as log:
        text = mask_ids(log.read(), ids)
        log.seek(0)
        log.write(text)
        log.truncate()


def redact_database(file: Path, ids: Ids) -> None:
    """Mask the ids in every text of an SQLite file, such as Prefect's messages of failed runs.

    Raises:
        sqlite3.Error: the file is damaged, or another process is writing to it.
    """
    with contextlib.closing(sqlite3.connect(file, timeout=10.0)) as database:
        database.create_function("mask", 1, lambda text: mask_ids(text, ids), deterministic=True)
        for table, column in list(_columns(database)):
            is_text = f"typeof({column}) = 'text'"
            database.execute(
                f"UPDATE {table} SET {column} = mask({column}) "
                f"WHERE {is_text} AND {column} != mask({column})"
            )
        database.commit()
        database.execute("VACUUM")  # freed pages would still have the old text
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _columns(database: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """(table, column) of the stored columns, quoted."""
    query = """
        SELECT tables.name, columns.name FROM sqlite_master AS tables
        JOIN pragma_table_xinfo(tables.name) AS columns
        WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite_%' AND columns.hidden = 0
    """
    for names in database.execute(query):
        table, column = (name.replace('"', '""') for name in names)
        yield f'"{table}"', f'"{column}"'


def _select(kind: str, ids: Ids) -> frozenset[int]:
    return ids.subjects if kind.lower() == "subject" else ids.stays
