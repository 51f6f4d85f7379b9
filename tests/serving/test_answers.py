"""Answers that a server keeps: complete, without inputs, whatever happens to disk and process."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import polars as pl
import pytest
from fastapi.testclient import TestClient

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.outcomes.answers import choose_answers
from flowsheet.prediction.limits import Limits
from flowsheet.serving import answer_files, answer_log, structured_logging
from flowsheet.serving.answer_files import (
    ANSWERS,
    AnswerWriter,
    list_answer_files,
    list_answer_folders,
    read_answers,
)
from flowsheet.serving.answer_log import AnswerLog
from flowsheet.serving.app import make_app
from flowsheet.serving.metrics import Metrics
from flowsheet.serving.scorer import Answer, PredictRequest, Scorer
from flowsheet.serving.service import Service
from flowsheet.serving.settings import ServeConfig
from flowsheet.state.erasures import ErasedIds
from tests.request_bodies import encode_body, select_stays

JSON = {"content-type": "application/json"}
NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.fixture(autouse=True)
def state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / "home"))


@pytest.fixture
def scored(champion, ward):
    """A batch of two requests as the scorer hands it on."""
    batches = []
    ids = ward.stays["stay_id"].to_list()
    parts = [select_stays(ward, *ids[:2]), select_stays(ward, ids[5])]
    scorer = Scorer(lambda: champion, Limits(), on_scored=batches.append)
    names = ("a", "b")
    scorer.score_requests(
        [PredictRequest(encode_body(p), name) for p, name in zip(parts, names, strict=True)]
    )
    return batches[0]


def rows_at(*times: datetime) -> pl.DataFrame:
    """An answer at each of the times."""
    columns = {"answered_at": list(times), "stay_id": list(range(len(times)))}
    missing = [pl.lit(None, kind).alias(n) for n, kind in ANSWERS.items() if n not in columns]
    return pl.DataFrame(columns).with_columns(missing).select(list(ANSWERS)).cast(ANSWERS)


def count(metrics: Metrics, outcome: str) -> float:
    name = "flowsheet_kept_answers_total"
    return metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


@pytest.mark.parametrize("keep_subjects", [False, True])
def test_what_the_client_gets_is_kept(service, ward, tmp_path, keep_subjects):
    folder = tmp_path / "answers"
    config = service.config.model_copy(
        update={"keep_answers": folder, "keep_subjects": keep_subjects}
    )
    kept = Service(config)
    kept.champion.current = service.champion.current
    part = select_stays(ward, *ward.stays["stay_id"].head(2))
    with TestClient(make_app(kept), base_url="http://localhost") as client:
        headers = {**JSON, "x-request-id": "ward-7.1"}
        answer = client.post("/predict", content=encode_body(part), headers=headers).json()
        client.post("/predict", content=b"{", headers=JSON)
        assert "flowsheet_kept_answers_total" in client.get("/metrics").text
    rows = read_answers(folder)
    assert rows.schema == pl.Schema(ANSWERS)
    expected = [
        (stay["stay_id"], step, datetime.fromisoformat(time), risk, alert)
        for stay in answer["stays"]
        for step, time, risk, alert in zip(
            stay["step"],
            stay["time"],
            stay["risk"],
            stay.get("alert", [None] * len(stay["step"])),
            strict=True,
        )
    ]
    assert rows.select("stay_id", "step", "time", "risk", "alert").rows() == expected
    facts = {name: rows[name].unique().to_list() for name in ("model", "version", "request_id")}
    assert facts == {"model": ["ward-lstm"], "version": [3], "request_id": ["ward-7.1"]}
    subjects = rows.select("stay_id", "subject_id").unique().sort("stay_id")["subject_id"]
    sent = part.stays.sort("stay_id")["subject_id"]
    assert subjects.to_list() == (sent.to_list() if keep_subjects else [None, None])
    assert list_answer_folders() == [folder.resolve()]
    (file,) = list_answer_files(folder)
    assert file.parent.parent == folder / "ward-lstm"
    assert not folder.stat().st_mode & 0o077


def test_requests_keep_their_ids_and_their_stays(scored, ward, tmp_path):
    log = AnswerLog(tmp_path / "kept", "ward-lstm", Metrics())
    log.add(scored)
    log.start()
    log.close(20)
    rows = read_answers(tmp_path / "kept")
    ids = [ward.stays["stay_id"][i] for i in (0, 1, 5)]
    by_request = rows.group_by("request_id", maintain_order=True).agg(pl.col("stay_id").unique())
    stays = {name: sorted(stays) for name, stays in by_request.iter_rows()}
    assert stays == {"a": sorted(ids[:2]), "b": [ids[2]]}
    assert not rows["is_shadow"].any()


def test_small_files_are_merged_and_days_are_apart(tmp_path):
    writer = AnswerWriter(tmp_path / "kept", "m")
    for i in range(40):
        at = NOW + timedelta(seconds=5 * i)
        writer.write(at.date(), rows_at(at))
        writer.merge()
    assert len(list_answer_files(tmp_path)) == 1 + 8
    tomorrow = NOW + timedelta(days=1)
    writer.write(tomorrow.date(), rows_at(tomorrow))
    writer.merge(is_last=True)
    files = list_answer_files(tmp_path)
    assert [file.parent.name for file in files] == ["2031-05-06", "2031-05-07"]
    assert read_answers(tmp_path)["answered_at"].n_unique() == 41


def test_a_worker_that_is_killed_after_a_merge_leaves_nothing_that_counts_twice(
    tmp_path, monkeypatch
):
    writer = AnswerWriter(tmp_path / "kept", "m")
    for i in range(3):
        writer.write(NOW.date(), rows_at(NOW + timedelta(seconds=i)))
    monkeypatch.setattr(Path, "unlink", lambda path, **_: None)
    writer.merge(is_last=True)
    assert len(list((tmp_path / "kept").rglob("*-*.parquet"))) == 4
    assert read_answers(tmp_path / "kept").height == 3


def test_workers_write_side_by_side(tmp_path):
    writers = [AnswerWriter(tmp_path / "kept", "m") for _ in range(2)]
    for writer in writers:
        for i in range(3):
            writer.write(NOW.date(), rows_at(NOW + timedelta(seconds=i)))
        writer.merge(is_last=True)
    assert len(list_answer_files(tmp_path / "kept")) == 2
    assert read_answers(tmp_path / "kept").height == 6


def test_a_full_disk_is_reported_and_counted_and_its_answers_are_written_later(
    scored, tmp_path, monkeypatch, capsys
):
    metrics = Metrics()
    log = AnswerLog(tmp_path / "kept", "ward-lstm", metrics)
    rows = scored.predictions.height
    monkeypatch.setattr(answer_log, "MAX_WAITING_ROWS", 2 * rows)
    real = pl.DataFrame.write_parquet
    full = raise_error(OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    for _ in range(3):
        log.add(scored)
    log._write(is_last=False)
    log._write(is_last=False)
    assert count(metrics, "lost") == rows
    assert metrics.registry.get_sample_value("flowsheet_answer_write_errors_total") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "answers_not_written"
    assert "No space left" in line
    assert list((tmp_path / "kept").rglob("*.parquet")) == []
    monkeypatch.setattr(pl.DataFrame, "write_parquet", real)
    log._write(is_last=True)
    assert count(metrics, "kept") == read_answers(tmp_path / "kept").height == 2 * rows


def test_a_killed_process_leaves_whole_files(tmp_path):
    """It writes without end, and is killed in the middle of it."""
    program = f"""
from pathlib import Path
import polars as pl
from flowsheet.serving import answer_files
rows = pl.read_parquet({str(tmp_path / "rows.parquet")!r})
writer = answer_files.AnswerWriter(Path({str(tmp_path / "kept")!r}), "m")
for i in range(10**6):
    writer.write(rows["answered_at"][0].date(), rows)
    writer.merge()
    if i == 40:
        print("go", flush=True)
"""
    rows_at(*(NOW + timedelta(seconds=i) for i in range(2_000))).write_parquet(
        tmp_path / "rows.parquet"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"go\n"
        assert read_answers(tmp_path / "kept").height % 2_000 == 0, "while it writes"
        process.kill()
    kept = read_answers(tmp_path / "kept")
    assert kept.height >= 40 * 2_000
    assert kept.height % 2_000 == 0
    left = list((tmp_path / "kept").rglob(".*.part"))
    AnswerWriter(tmp_path / "kept", "m").write(NOW.date(), rows_at(NOW))
    assert not any(file.exists() for file in left)


def test_erased_subjects_are_not_written(scored, tmp_path):
    log = AnswerLog(tmp_path / "kept", "ward-lstm", Metrics())
    stays = [stay for ids in scored.batch.stay_ids for stay in ids]
    (tmp_path / "home").mkdir(exist_ok=True)
    ErasedIds.load().add([], stays[:1])
    log.add(scored)
    log._write(is_last=True)
    assert read_answers(tmp_path / "kept")["stay_id"].unique().sort().to_list() == stays[1:]


def test_what_is_no_file_of_answers_is_refused_by_name(tmp_path):
    with pytest.raises(CheckFailed, match="has no answers"):
        read_answers(tmp_path)
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "cut.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(CheckFailed, match=r"cut\.parquet"):
        read_answers(tmp_path)
    pl.DataFrame({"stay_id": [1]}).write_parquet(folder / "cut.parquet")
    with pytest.raises(CheckFailed, match="answered_at"):
        read_answers(tmp_path)


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file" / "answers", Path("s3://bucket/answers")):
        with pytest.raises(UsageError, match="--keep-answers"):
            Service(ServeConfig(name="m", keep_answers=place))
    assert not Path("s3:").exists()


def test_a_folder_that_is_gone_is_not_passed_over(tmp_path):
    AnswerWriter(tmp_path / "kept", "m")
    (tmp_path / "kept" / "m").rmdir()
    (tmp_path / "kept").rmdir()
    with pytest.raises(CheckFailed, match="kept"):
        answer_files.list_answer_folders()


def test_requests_of_one_id_in_one_batch_are_all_kept(champion, ward, tmp_path):
    """A client that asks twice about a stay, with other records, gives both the same id."""
    stay = ward.stays["stay_id"][0]
    part = select_stays(ward, stay)
    bodies = [encode_body(part), encode_body(replace(part, events=part.events.head(3)))]
    log = AnswerLog(tmp_path / "kept", "ward-lstm", Metrics())
    answers: list[Answer] = []
    for _ in range(2):
        requests = [PredictRequest(body, "ward-7") for body in bodies]
        answers += Scorer(lambda: champion, Limits(), log.add).score_requests(requests)
    log._write(is_last=True)
    rows = read_answers(tmp_path / "kept").sort("answered_at", "step")
    kept = [part["risk"].to_list() for part in rows.partition_by("answered_at")]
    given = [json.loads(answer.body)["stays"][0]["risk"] for answer in answers]
    assert kept == given
    assert given[0] != given[1]
    chosen = choose_answers(tmp_path / "kept")
    assert chosen.given["answers"].item() == 4 * len(given[0])
    last = chosen.answers.sort("step").tail(1)
    assert last["risk"].item() == given[-1][-1]


def test_answers_that_no_row_can_be_made_of_are_counted_and_leave_room(
    scored, tmp_path, monkeypatch, capsys
):
    metrics = Metrics()
    log = AnswerLog(tmp_path / "kept", "ward-lstm", metrics)
    steps = scored.predictions.height
    broken = replace(scored, predictions=scored.predictions.with_columns(risk=pl.lit("half")))
    for batch in (scored, broken, scored):
        log.add(batch)
    log._write(is_last=False)
    assert read_answers(tmp_path / "kept").height == count(metrics, "kept") == 2 * steps
    assert count(metrics, "lost") == steps
    assert log._waiting_rows == 0
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["steps"]) == ("answers_lost", steps)
    assert "half" not in str(line)


def test_answers_wait_for_memory_and_those_that_are_never_written_are_counted(
    scored, tmp_path, monkeypatch, capsys
):
    metrics = Metrics()
    log = AnswerLog(tmp_path / "kept", "ward-lstm", metrics)
    steps = scored.predictions.height
    log.add(scored)
    with monkeypatch.context() as patch:
        patch.setattr(answer_log, "_to_rows", raise_error(MemoryError()))
        log._write(is_last=False)
    log._write(is_last=False)
    assert count(metrics, "kept") == steps
    assert count(metrics, "lost") == 0
    log.add(scored)
    monkeypatch.setattr(pl.DataFrame, "write_parquet", raise_error(OSError(errno.EIO, "I/O error")))
    log.start()
    log.close(20)
    assert count(metrics, "lost") == steps
    *_, line = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["steps"]) == ("answers_lost", steps)


def test_a_disk_that_does_not_answer_is_no_silent_loss(scored, tmp_path, monkeypatch, capsys):
    log = AnswerLog(tmp_path / "kept", "ward-lstm", Metrics())
    answers_again = Event()
    monkeypatch.setattr(AnswerWriter, "write", lambda *_: answers_again.wait(20))
    log.add(scored)
    log.start()
    log.close(0.2)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["steps"]) == ("answers_lost", scored.predictions.height)
    answers_again.set()
    log._thread.join(20)


def raise_error(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_a_log_that_nobody_reads_any_more_ends_nothing(monkeypatch):
    monkeypatch.setattr(sys.stderr, "write", raise_error(BrokenPipeError()))
    structured_logging.log_event("model_loaded")
