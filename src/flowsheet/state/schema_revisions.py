"""The schema of a library's SQLite database, by the revisions of its migrations (Alembic's).

They are read from the library's files, because importing them takes seconds.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_ASSIGNMENT = re.compile(r"^(revision|down_revision)\b[^=\n]*=(.*)$", re.MULTILINE)
_ID = re.compile(r"[\"'](\w+)[\"']")


@dataclass(frozen=True)
class Revisions:
    """The revisions that an installed library knows."""

    known: frozenset[str]
    heads: frozenset[str]
    """The latest ones, which no other one follows."""


def read_revision(database: Path) -> str | None:
    """The revision of a database's tables; None if there is no database, or none is recorded."""
    if not database.is_file() or not database.stat().st_size:
        return None
    with contextlib.closing(
        sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    ) as connection:
        try:
            row = connection.execute("select version_num from alembic_version").fetchone()
        except sqlite3.OperationalError:  # no such table
            return None
    return str(row[0]) if row else None


def list_revisions(package: str, folder: str) -> Revisions:
    """The revisions of an installed library.

    Args:
        package: the library, which is not imported.
        folder: where its migrations are.
    """
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    found: dict[str, set[str]] = {"revision": set(), "down_revision": set()}
    for file in sorted((root / folder).glob("*.py")):
        for name, value in _ASSIGNMENT.findall(file.read_text(encoding="utf-8")):
            found[name].update(_ID.findall(value))
    known = frozenset(found["revision"])
    return Revisions(known, known - found["down_revision"])
