from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3

import polars as pl
import pytest

from flowsheet.cohort.extract import Extract, check_extract
from flowsheet.compose import load
from flowsheet.config import PromotionConfig, validate_config
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.deployment import monitoring, promotion
from flowsheet.lifecycle.erasure import places
from flowsheet.lifecycle.erasure.erase import erase
from flowsheet.lifecycle.experiment import prepare, rerun
from flowsheet.lifecycle.experiment.stage import is_complete
from flowsheet.lifecycle.runtime.reports import fetch_report
from flowsheet.serving.answer_files import ANSWERS, AnswerWriter
from flowsheet.state.erasures import pending_file, use_records
from flowsheet.state.hashing import file_digest
from flowsheet.tracking import decisions, model_registry
from flowsheet.tracking.store import connect
from tests.lifecycle.erasure.conftest import MODEL, Experiment, run
from tests.lifecycle.erasure.search import find


def erase_all(*subjects, folders=(), dry_run=False):
    return erase(
        subjects, folders, actor="Ada", reason="asked for", dry_run=dry_run, progress=print
    )


def stays_of(experiment: Experiment, subject: int) -> list[int]:
    stays = pl.read_parquet(experiment.stages("extract")[0] / "extract" / "stays.parquet")
    return stays.filter(subject_id=subject)["stay_id"].to_list()


@pytest.mark.parametrize("part", ["held_out", "trained_on"])
def test_no_file_has_an_erased_subject_or_its_stays(filled, part):
    subject = getattr(filled, part)()
    stays = stays_of(filled, subject)
    assert len(stays) == 2
    before = find(filled.home, subject)
    assert len(before) >= 4
    assert any(find(filled.home, stay) for stay in stays)
    erase_all(subject)
    assert find(filled.home, subject) == []
    assert [find(filled.home, stay) for stay in stays] == [[], []]
    assert find(filled.home, subject + 1), "the next subject is still there"
    assert not pending_file().exists()


def test_answers_outside_the_state_folder_are_erased_by_subject_or_else_by_stay(finished, tmp_path):
    """A server has registered its folder; another patient has the number of one of the stays."""
    subject = finished.held_out()
    (stay, *_) = stays_of(finished, subject)
    AnswerWriter(tmp_path / "kept", MODEL)
    columns = {"stay_id": [stay, stay, stay, 1], "subject_id": [subject, None, 99, None]}
    frame = pl.DataFrame(columns, schema={name: ANSWERS[name] for name in columns})
    missing = [pl.lit(None, kind).alias(name) for name, kind in ANSWERS.items()]
    file = tmp_path / "kept" / MODEL / "0123456789ab-00000001-00000002.parquet"
    frame.with_columns(c for c in missing if c.meta.output_name() not in columns).write_parquet(
        file
    )
    erase_all(subject)
    left = pl.read_parquet(file).select("stay_id", "subject_id").rows()
    assert left == [(stay, 99), (1, None)]


def test_held_out_rows_leave_the_store_and_the_run_and_the_checksums_follow(finished):
    subject = finished.held_out()
    rows = finished.predictions()
    erase_all(subject)
    evidence = finished.stages("evidence")[0]
    key = json.loads((evidence / "stage.json").read_text(encoding="utf-8"))["key"]
    assert is_complete("evidence", key)
    artifacts = finished.home / f"mlflow/artifacts/own_ward/{finished.summary.run_id}/artifacts"
    kept = rows.filter(pl.col("subject_id") != subject)
    for folder in (evidence, artifacts / "evidence"):
        assert pl.read_parquet(folder / "predictions.parquet").equals(kept)
        recorded = json.loads((folder / "stage.json").read_text(encoding="utf-8"))["sha256"]
        assert recorded == {name: file_digest(folder / name) for name in recorded}


def test_an_erased_extract_is_valid_and_the_same_as_one_ingested_again(finished):
    stage = finished.stages("extract")[0]
    before = Extract.open(stage / "extract")
    quarantined = pl.read_parquet(before.path / "quarantine.parquet")
    rows = before.tables().stays.join(quarantined, on="stay_id")
    subject = int(rows["subject_id"].min())
    (stay, *_) = rows.filter(subject_id=subject)["stay_id"].to_list()
    erase_all(subject)
    erased = Extract.open(stage / "extract", verify=True)
    assert check_extract(erased.path).is_empty()
    assert erased.fingerprint != before.fingerprint
    assert erased.manifest.counts["subjects"] == before.manifest.counts["subjects"] - 1
    shutil.rmtree(stage)
    again = prepare.open_extract(prepare.ingest_cohort(finished.config.cohort, print))
    assert again.fingerprint == erased.fingerprint
    assert again.manifest == erased.manifest
    for folder in (erased.path, again.path):
        assert (folder / "quarantine.parquet").is_file()
        assert find(folder, subject) == find(folder, stay) == []


def test_a_later_run_uses_nothing_that_had_the_subject(finished):
    subject = finished.trained_on()
    first = finished.summary.run_id
    erase_all(subject)
    second = run(finished.config)
    assert second.run_id != first
    assert "windows" not in second.reused
    assert "logistic" not in second.reused
    assert find(finished.home, subject) == []


def test_models_that_were_trained_on_the_subject_are_listed_and_marked(finished):
    result = erase_all(finished.trained_on())
    listed = {model.name: model.in_training for model in result.models}
    assert listed == {f"run {finished.summary.run_id}, own_ward": True, f"{MODEL}/1": True}
    tags = connect().get_model_version(MODEL, "1").tags
    assert tags["flowsheet.erased_subjects"] == "1"
    assert tags["flowsheet.erased_from"] == "training"
    assert connect().get_run(finished.summary.run_id).data.tags["flowsheet.erased_subjects"] == "1"


def test_a_held_out_subject_was_only_evaluated_on_and_a_second_one_is_counted(finished):
    first = finished.held_out()
    result = erase_all(first)
    assert not any(model.in_training for model in result.models)
    result = erase_all(finished.held_out())
    tags = connect().get_run(finished.summary.run_id).data.tags
    assert tags["flowsheet.erased_subjects"] == "2"
    assert tags["flowsheet.erased_from"] == "held out"


def test_a_second_subject_is_found_among_those_that_a_model_was_trained_on(finished):
    first = finished.trained_on()
    erase_all(first)
    result = erase_all(first + 1)
    assert {model.name for model in result.models if model.in_training} == {
        f"run {finished.summary.run_id}, own_ward",
        f"{MODEL}/1",
    }
    assert connect().get_model_version(MODEL, "1").tags["flowsheet.erased_subjects"] == "2"


def test_the_log_has_the_proof_without_the_id(finished):
    subject = finished.held_out()
    planned = erase_all(subject, dry_run=True)
    result = erase_all(subject)
    (decision,) = decisions.load_decisions()
    assert decision == result.decision
    assert (decision.action, decision.actor, decision.reason) == ("erased", "Ada", "asked for")
    assert decision.subjects == result.digests
    rows = dict(decision.erased)
    assert rows["windows"] > 0
    assert sum(rows.values()) == sum(place.rows for place in planned.places)
    assert str(subject) not in decision.model_dump_json()
    assert f"windows {rows['windows']}" in decision.explanation


def shown_stay(experiment: Experiment) -> tuple[int, int]:
    """Subject and stay of the first patient in the run's report."""
    (report,) = experiment.home.glob("mlflow/artifacts/*/*/artifacts/report/report.html")
    shown = re.search(r"Stay (\d+), ", report.read_text(encoding="utf-8"))
    assert shown
    stay = int(shown[1])
    return int(experiment.predictions().filter(stay_id=stay)["subject_id"][0]), stay


def test_a_report_that_shows_a_stay_of_the_subject_is_deleted_and_its_copies(finished):
    subject, stay = shown_stay(finished)
    copy = fetch_report(None, None)
    assert find(finished.home, stay)
    result = erase_all(subject)
    assert not copy.exists()
    assert find(finished.home, stay) == []
    assert f"report {copy.name}" in [place.name for place in result.places]
    with pytest.raises(CheckFailed, match="report"):
        fetch_report(None, None)


def test_a_report_that_shows_other_stays_is_kept(finished):
    shown = shown_stay(finished)[0]
    other = finished.predictions().filter(pl.col("subject_id") != shown)["subject_id"].unique()
    reports = sorted(finished.home.glob("mlflow/artifacts/*/*/artifacts/report/report.html"))
    text = reports[0].read_text(encoding="utf-8")
    stays = {subject: stays_of(finished, subject) for subject in other.sort()}
    subject = next(
        subject
        for subject, theirs in stays.items()
        if not any(f"Stay {stay}, " in text for stay in theirs)
    )
    erase_all(subject)
    assert reports[0].is_file()


def test_prefect_s_messages_name_no_erased_stay(finished):
    subject = finished.held_out()
    (stay, *_) = stays_of(finished, subject)
    folder = finished.home / "prefect"
    folder.mkdir()
    message = f"CheckFailed: a risk is no number\n  where: model m, stay {stay}, step 3"
    with contextlib.closing(sqlite3.connect(folder / "prefect.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE flow_run_state (id TEXT, message TEXT, data JSON)")
        rows = [("a", message, json.dumps({"log": message})), ("b", "stay 12, step 3", None)]
        database.executemany("INSERT INTO flow_run_state VALUES (?, ?, ?)", rows)
        database.commit()
        erase_all(subject)
        kept = database.execute("SELECT * FROM flow_run_state ORDER BY id").fetchall()
    masked = message.replace(str(stay), "[erased]")
    assert kept == [("a", masked, json.dumps({"log": masked})), ("b", "stay 12, step 3", None)]
    assert find(folder, stay) == []


def test_promotion_and_monitoring_go_on(filled):
    erase_all(filled.held_out())
    config = validate_config(PromotionConfig, load("promotion", "standard"), where="standard")
    result = promotion.promote(MODEL, 1, config, reason="first")
    assert result.decision.number == 2
    changes = monitoring.monitor(
        f"{MODEL}/1",
        filled.stages("extract")[0] / "extract",
        print,
        monitoring.load_monitoring_config("standard"),
    )
    assert changes.stays < 160
    assert model_registry.get_version(MODEL, 1)


def test_promotion_without_any_held_out_row_says_why(finished):
    subjects = finished.predictions()["subject_id"].unique().to_list()
    erase_all(*subjects)
    config = validate_config(PromotionConfig, load("promotion", "standard"), where="standard")
    with pytest.raises(CheckFailed, match="no held-out row is left"):
        promotion.promote(MODEL, 1, config, reason="first")


def test_a_rerun_says_that_a_subject_was_erased(finished):
    erase_all(finished.trained_on())
    lines: list[str] = []
    result = rerun.rerun(finished.summary.run_id, lambda config, tags: run(config), lines.append)
    assert any("1 of the subjects in this run's records" in line for line in lines)
    assert not result.is_reproduced
    assert result.changes[0].name == "erased subjects"
    assert "fingerprint of extract" in [change.name for change in result.changes]


def test_a_dry_run_changes_nothing(finished):
    def contents():
        files = [file for file in finished.home.rglob("*") if file.is_file()]
        return {file: file_digest(file) for file in files if file.suffix != ".lock"}

    erase_all(finished.held_out(), dry_run=True)  # leads a copied home's artifacts to its place
    before = contents()
    result = erase_all(finished.held_out(), dry_run=True)
    assert {place.group for place in result.places} >= {"extract", "windows", "artifacts"}
    assert result.decision is None
    assert contents().items() >= before.items()


def test_an_unknown_subject_is_refused_and_nobody_is_erased(finished):
    subject = finished.held_out()
    with pytest.raises(UsageError, match="subject 12 is in no place"):
        erase_all(subject, 12)
    assert find(finished.home, subject)
    erase_all(subject)
    with pytest.raises(UsageError, match="it was erased on"):
        erase_all(subject)


@pytest.mark.parametrize("kill_at", [0, 3, 7])
def test_an_interrupted_erasure_is_completed(filled, monkeypatch, kill_at):
    subject = filled.held_out()
    stays = stays_of(filled, subject)
    planned = erase_all(subject, dry_run=True).places
    erased: list[str] = []
    erase_place = places.erase_place

    def erase_until_killed(place, ids, runs):
        if len(erased) == kill_at:
            raise KeyboardInterrupt
        erased.append(place.name)
        erase_place(place, ids, runs)

    monkeypatch.setattr(places, "erase_place", erase_until_killed)
    with pytest.raises(KeyboardInterrupt):
        erase_all(subject)
    monkeypatch.undo()
    monkeypatch.setenv("FLOWSHEET_HOME", str(filled.home))
    with (
        pytest.raises(CheckFailed, match="the erasure of a subject was interrupted"),
        use_records(),
    ):
        pass
    result = erase_all()
    assert find(filled.home, subject) == []
    assert [find(filled.home, stay) for stay in stays] == [[], []]
    (decision,) = decisions.load_decisions()
    assert decision == result.decision
    assert sum(dict(decision.erased).values()) == sum(place.rows for place in planned)


def test_an_erasure_does_not_begin_while_records_are_used(finished):
    with use_records(), pytest.raises(CheckFailed, match="uses the records"):
        erase_all(finished.held_out())


def test_a_place_that_cannot_be_erased_is_named_and_no_run_begins(finished, monkeypatch):
    def refuse(place, ids, runs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(places, "erase_place", refuse)
    with pytest.raises(CheckFailed, match=r"windows [0-9a-f]+: Permission denied"):
        erase_all(finished.held_out())
    with pytest.raises(CheckFailed, match="interrupted"):
        run(finished.config)


def test_an_extract_elsewhere_is_written_again(finished, tmp_path):
    subject = finished.held_out()
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(finished.stages("extract")[0] / "extract", elsewhere)
    erase_all(subject, folders=[elsewhere])
    assert find(elsewhere, subject) == []
    assert check_extract(elsewhere).is_empty()
    with pytest.raises(UsageError, match=r"manifest\.json"):
        erase_all(subject, folders=[tmp_path])
