"""SQLite files: whether one is damaged, as after a full disk or a copy that was cut short."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

SQLITE_SUFFIXES = ("-journal", "-wal", "-shm")
"""Of the files beside a database that belong to it."""


def find_damage(path: Path, *, thorough: bool = False) -> str | None:
    """What is wrong with a database file; None if nothing is, or if there is no such file.

    Args:
        path: the file.
        thorough: read every page, instead of comparing the file's length with its header.
    """
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as database:
            page_count, page_size = (
                int(database.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "page_size")
            )
            if page_count * page_size > path.stat().st_size + _wal_size(path):
                return "the file is cut short"
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if thorough:
                result = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
                return None if result == "ok" else result
    except sqlite3.OperationalError:  # locked, or it cannot be opened: that is no damage
        return None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None


def _wal_size(path: Path) -> int:
    """Bytes of the write-ahead log, whose pages are not in the file yet."""
    wal = path.with_name(f"{path.name}-wal")
    return wal.stat().st_size if wal.is_file() else 0
