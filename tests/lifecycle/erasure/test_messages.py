"""Messages that name subjects or stays."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3

import pytest

from flowsheet.cohort.engine.cells import find_id_number
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.lifecycle.erasure.messages import mask_ids, mentions
from flowsheet.lifecycle.erasure.tables import Ids
from flowsheet.lifecycle.outcomes.judged_rows import UnjudgedAnswers
from flowsheet.tracking import erasure
from flowsheet.tracking.schema_migration import BEFORE_UPGRADE
from tests.lifecycle.erasure.search import find
from tests.lifecycle.erasure.test_erase import erase_all, stays_of


@pytest.mark.parametrize("stay", [17, 19, 21])
def test_every_stay_that_answers_name_is_found_and_masked(tmp_path, stay):
    unjudged = UnjudgedAnswers(reason="a reason", answers=9, stays=4, first_stays=(17, 19, 21))
    report = tmp_path / "report.html"
    report.write_text(f"<li>{unjudged.summary}</li>", encoding="utf-8")
    ids = Ids(frozenset(), frozenset({stay}))
    assert mentions(report, ids)
    assert mask_ids(unjudged.summary, ids) == unjudged.summary.replace(str(stay), "[erased]")
    others = Ids(frozenset({stay}), frozenset({1, 9}))
    assert not mentions(report, others)
    assert mask_ids(unjudged.summary, others) == unjudged.summary


def test_stays_of_a_list_are_masked_beside_each_other():
    ids = Ids(frozenset(), frozenset({17, 21}))
    assert mask_ids("stay 17, 18, 21", ids) == "stay [erased], 18, [erased]"


def test_a_stay_whose_id_is_a_text_is_found_and_masked(tmp_path):
    """The number is that of the extract: a hash of the admission's text, and the place there."""
    report = tmp_path / "server.log"
    message = "stays: stay H-112 #2, discharged_at; stay H-112 #1; stay ABC-7 has no events"
    report.write_text(message, encoding="utf-8")
    admission, other = find_id_number("H-112"), find_id_number("ABC-7")
    assert admission is not None
    ids = Ids(frozenset(), frozenset({admission * 100 + 2, other}))
    assert mentions(report, ids)
    masked = "stays: stay [erased], discharged_at; stay H-112 #1; stay [erased] has no events"
    assert mask_ids(message, ids) == masked
    report.write_text(masked, encoding="utf-8")
    assert not mentions(report, ids)


def test_copies_of_databases_logs_and_deleted_runs_are_redacted(finished):
    """Nothing else can change them: no server uses them, and MLflow changes no deleted run."""
    subject = finished.held_out()
    (stay, *_) = stays_of(finished, subject)
    message = f"a risk is no number: stay {stay}, step 3"
    database = finished.home / "mlflow" / "mlflow.db"
    with contextlib.closing(sqlite3.connect(database)) as records:
        (run_id,) = records.execute("SELECT run_uuid FROM runs").fetchone()
        tag = ("flowsheet.error", message, run_id)
        records.execute("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", tag)
        records.execute("UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = ?", [run_id])
        records.commit()
    backup = database.with_name(f"{database.name}{BEFORE_UPGRADE}0123abcd")
    shutil.copy(database, backup)
    log = finished.home / "prefect" / "server.log"
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(b"\xffstarted\r\n" + f"failed: {message}\n".encode())
    erase_all(subject)
    masked = message.replace(str(stay), "[erased]")
    for file in (database, backup):
        with contextlib.closing(sqlite3.connect(file)) as records:
            query = "SELECT value FROM tags WHERE key = 'flowsheet.error'"
            assert records.execute(query).fetchall() == [(masked,)]
    assert log.read_bytes() == b"\xffstarted\r\n" + f"failed: {masked}\n".encode()
    assert find(finished.home, stay) == []


def test_a_database_that_is_in_use_is_named(tmp_path, monkeypatch):
    database = tmp_path / "mlflow.db"
    monkeypatch.setattr(erasure, "_LOCK_SECONDS", 0.1)
    monkeypatch.setattr(erasure, "tracking_uri", lambda: f"sqlite:///{database}")
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("CREATE TABLE tags (key TEXT, value TEXT)")
        other.execute("INSERT INTO tags VALUES ('flowsheet.error', 'stay 17')")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(FlowsheetError, match="locked") as error:
            erasure._redact_deleted(str.upper)
        assert "flowsheet erase" in error.value.todo
        other.execute("COMMIT")
        erasure._redact_deleted(str.upper)
        assert other.execute("SELECT value FROM tags").fetchall() == [("STAY 17",)]


def test_a_damaged_copy_of_a_database_is_named(finished):
    subject = finished.held_out()
    (stay, *_) = stays_of(finished, subject)
    copy = finished.home / "prefect" / "prefect.db.damaged-20310101"
    copy.parent.mkdir(exist_ok=True)
    copy.write_text(f"SQLite format 3 ... stay {stay}", encoding="utf-8")
    with pytest.raises(CheckFailed, match="damaged-20310101") as error:
        erase_all(subject)
    assert "delete" in error.value.todo
    copy.unlink()
    erase_all()
