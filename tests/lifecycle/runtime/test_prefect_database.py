"""A damaged database of the embedded Prefect server does not stop a run."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from flowsheet.lifecycle.runtime.prefect_database import set_aside_if_damaged


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "prefect.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE flow_run (id INTEGER PRIMARY KEY, name TEXT)")
        rows = [(f"a rather long name of run {number}",) for number in range(2_000)]
        connection.executemany("INSERT INTO flow_run (name) VALUES (?)", rows)
    return path


def damage(path: Path, start: int, end: int | None, content: bytes) -> None:
    before = path.read_bytes()
    path.write_bytes(before[:start] + content + (before[end:] if end else b""))


@pytest.mark.parametrize(
    ("start", "end", "content"),
    [(0, 16, b"no database at "), (9_000, None, b""), (4_096, 8_192, b"\xff" * 4_096)],
    ids=["header", "cut short", "page"],
)
def test_a_damaged_database_is_set_aside(database, start, end, content, capsys):
    damage(database, start, end, content)
    damaged = database.read_bytes()
    renamed = set_aside_if_damaged(database.parent)
    assert renamed is not None
    assert renamed.read_bytes() == damaged
    assert not database.exists()
    assert f"set aside as {renamed}" in capsys.readouterr().err


def test_a_sound_database_stays(database):
    assert set_aside_if_damaged(database.parent) is None
    assert database.exists()


def test_no_database_and_an_empty_one_are_no_damage(tmp_path):
    assert set_aside_if_damaged(tmp_path) is None
    (tmp_path / "prefect.db").touch()
    assert set_aside_if_damaged(tmp_path) is None
