"""A state folder that was moved or copied: its record of artifacts leads to where they are now.

MLflow writes absolute locations of artifacts to its database. Without this, a moved folder would
lose its models, and a run in a copy would write into the original.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""(table, column) of MLflow's database that hold locations of artifacts."""
_ROOT = re.compile(r"(file://.*/mlflow/artifacts)(?:/.*)?")


def relocate_artifacts(database: Path, root: str) -> list[str]:
    """Replace the locations in other state folders by those in this one.

    Args:
        database: MLflow's SQLite file.
        root: URI of the folder with the artifacts of this state folder.

    Returns:
        The replaced roots.
    """
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        try:
            rows = connection.execute("SELECT DISTINCT artifact_location FROM experiments")
        except sqlite3.OperationalError:  # a process was killed before MLflow made its tables
            return []
        matches = [_ROOT.fullmatch(location or "") for (location,) in rows.fetchall()]
        found = {match[1] for match in matches if match}
        old_roots = sorted(old for old in found if not _is_same_folder(old, root))
        for old in old_roots:
            _replace_prefix(connection, old, root)
    for old in old_roots:
        print(
            f"[mlflow] this state folder was made as {_to_path(old).parents[1]}: "
            "the locations of its artifacts now lead to where it is",
            file=sys.stderr,
            flush=True,
        )
    return old_roots


def _replace_prefix(connection: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in _LOCATIONS:
        connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
            f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
        )


def _is_same_folder(old: str, new: str) -> bool:
    """Whether both lead to one folder: it may be known by several names, such as a link."""
    old_path, new_path = _to_path(old), _to_path(new)
    return old == new or (old_path.exists() and new_path.exists() and old_path.samefile(new_path))


def _to_path(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path))
