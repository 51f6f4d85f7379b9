"""Bring MLflow's SQLite file up to the installed MLflow, or refuse that of a newer one."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from flowsheet.errors import FlowsheetError
from flowsheet.progress import report
from flowsheet.state.schema_revisions import list_revisions, read_revision
from flowsheet.state.sqlite_files import SQLITE_SUFFIXES

BEFORE_UPGRADE = ".before-upgrade-of-"
"""Part of the name of copies, before the revision of their tables."""
_MIGRATIONS = "store/db_migrations/versions"


def migrate_database(database: Path) -> Path | None:
    """Migrate the tables of an older MLflow; returns the copy of the file as it was before.

    The caller makes sure that no other process uses the file.

    Raises:
        FlowsheetError: a newer MLflow wrote the file, or it cannot be migrated.
    """
    revision = read_revision(database)
    revisions = list_revisions("mlflow", _MIGRATIONS)
    if revision is None or revision in revisions.heads:
        return None
    if revision not in revisions.known:
        raise FlowsheetError(
            f"a newer MLflow than this one ({version('mlflow')}) wrote the tracking database: "
            f"this one does not know the schema {revision}",
            where=str(database),
            todo="use the release of Flowsheet that wrote it, or restore a backup of the whole "
            f"folder {database.parent}",
        )
    backup = database.with_name(f"{database.name}{BEFORE_UPGRADE}{revision}")
    working_copy = database.with_name(f"{database.name}.upgrade")
    report(
        f"MLflow {version('mlflow')} has other tables: the old file is kept as {backup}", "mlflow"
    )
    _delete(working_copy)  # of a migration that was killed, which left the file as it was
    try:
        _copy(database, working_copy)
        _upgrade(working_copy, database)
        _copy(database, backup)
        _copy(working_copy, database)
    finally:
        _delete(working_copy)
    return backup


def _upgrade(working_copy: Path, database: Path) -> None:
    """Migrate a copy of the database, which errors name."""
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{working_copy}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
    if result.returncode:
        *_, reason = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise FlowsheetError(
            f"the tracking database cannot be migrated: {reason}",
            where=str(database),
            todo="the file is as it was: use the release of Flowsheet that wrote it",
        )


def _copy(source: Path, target: Path) -> None:
    """Copy a database, its write-ahead log included, in one transaction of the target."""
    with (
        contextlib.closing(sqlite3.connect(source)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


def _delete(database: Path) -> None:
    for suffix in ("", *SQLITE_SUFFIXES):
        database.with_name(f"{database.name}{suffix}").unlink(missing_ok=True)
