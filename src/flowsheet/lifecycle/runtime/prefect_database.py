"""The database of the embedded Prefect server: a journal of runs that can be begun anew."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from flowsheet.errors import FlowsheetError
from flowsheet.state.schema_revisions import list_revisions, read_revision
from flowsheet.state.sqlite_files import find_damage

_SUFFIXES = ("", "-wal", "-shm")
_MIGRATIONS = "server/database/_migrations/versions/sqlite"


def check_not_newer(folder: Path) -> None:
    """Refuse a ``prefect.db`` that a newer Prefect wrote; an older one is migrated by the server.

    Raises:
        FlowsheetError: a newer Prefect wrote it.
    """
    database = folder / "prefect.db"
    revision = read_revision(database)
    if revision is None or revision in list_revisions("prefect", _MIGRATIONS).known:
        return
    raise FlowsheetError(
        f"a newer Prefect than this one ({version('prefect')}) wrote the record of earlier flow "
        f"runs: this one does not know the schema {revision}",
        where=str(database),
        todo="use the release of Flowsheet that wrote it, or move the file away to begin a new "
        "one: results do not depend on it",
    )


def set_aside_if_damaged(folder: Path) -> Path | None:
    """Rename a damaged ``prefect.db``, so that the server makes a new one; returns its new path.

    The caller makes sure that no server uses it. Nothing of an experiment depends on it: stages are
    in the store, and results in MLflow.
    """
    database = folder / "prefect.db"
    damage = find_damage(database, thorough=True)
    if damage is None:
        return None
    label = datetime.now(UTC).strftime("damaged-%Y%m%dT%H%M%SZ")
    renamed = folder / f"prefect.db.{label}"
    for suffix in _SUFFIXES:
        file = folder / f"prefect.db{suffix}"
        if file.exists():
            file.rename(f"{renamed}{suffix}")
    print(
        f"[prefect] the record of earlier runs was damaged ({damage}): set aside as {renamed}; "
        "a new one is begun",
        file=sys.stderr,
        flush=True,
    )
    return renamed
