"""A killed or failed migration of MLflow's database (test_upgrade has the real one)."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from pathlib import Path

import pytest

from flowsheet.errors import FlowsheetError
from flowsheet.state.schema_revisions import list_revisions
from flowsheet.tracking import schema_migration
from flowsheet.tracking.schema_migration import migrate_database

REVISIONS = list_revisions("mlflow", "store/db_migrations/versions")
(HEAD,) = REVISIONS.heads
OLD = min(REVISIONS.known - REVISIONS.heads)


@pytest.fixture
def database(tmp_path) -> Path:
    file = tmp_path / "mlflow.db"
    execute(file, "create table alembic_version (version_num text)")
    execute(file, f"insert into alembic_version values ('{OLD}')")
    return file


def execute(database: Path, statement: str) -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        return connection.execute(statement).fetchall()


def list_tables(database: Path) -> set[str]:
    return {name for (name,) in execute(database, "select name from sqlite_master")}


def upgrade_with(monkeypatch, *statements: str, end: BaseException | int) -> None:
    """Let ``mlflow db upgrade`` do this, and end so."""

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        for statement in statements:
            execute(Path(command[-1].removeprefix("sqlite:///")), statement)
        if isinstance(end, BaseException):
            raise end
        return subprocess.CompletedProcess(command, end, "", "a reason")

    monkeypatch.setattr(schema_migration.subprocess, "run", run)


@pytest.mark.parametrize("end", [KeyboardInterrupt(), 1])
def test_a_migration_that_does_not_end_leaves_the_file_as_it_was(database, monkeypatch, end):
    upgrade_with(monkeypatch, "create table half_done (x int)", end=end)
    with pytest.raises((FlowsheetError, KeyboardInterrupt)):
        migrate_database(database)
    assert list_tables(database) == {"alembic_version"}

    upgrade_with(monkeypatch, f"update alembic_version set version_num = '{HEAD}'", end=0)
    backup = migrate_database(database)
    assert execute(database, "select * from alembic_version") == [(HEAD,)]
    assert execute(backup, "select * from alembic_version") == [(OLD,)]
    assert list_tables(database) == list_tables(backup) == {"alembic_version"}
    assert sorted(file.name for file in database.parent.iterdir()) == [database.name, backup.name]


def test_what_a_killed_migration_left_is_not_used(database, monkeypatch):
    left = database.with_name(f"{database.name}.upgrade")
    execute(left, "create table half_done (x int)")
    upgrade_with(monkeypatch, f"update alembic_version set version_num = '{HEAD}'", end=0)
    migrate_database(database)
    assert list_tables(database) == {"alembic_version"}
