"""The life of a model with extracts, stages and artifacts on an S3 server, on two machines."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cli import main
from flowsheet.cohort.extract import Extract
from flowsheet.cohort.remote_extracts import local_extract
from flowsheet.prediction.limits import Limits
from flowsheet.serving.answer_log import AnswerLog
from flowsheet.serving.metrics import Metrics
from flowsheet.serving.model_slot import LoadedModel
from flowsheet.serving.scorer import PredictRequest, Scorer
from flowsheet.tracking import model_registry, registered_packages
from tests.e2e.conftest import CommandResult
from tests.e2e.servers import mlflow_server
from tests.e2e.stack import LENIENT_GATES
from tests.request_bodies import encode_body, select_stays
from tests.s3_server import S3Server, folder

pytestmark = [pytest.mark.slow, pytest.mark.server]
NAME = "demo-logistic_regression"
RUN = [
    *("run", "demo", "cohort=extract", "cohort.path=s3://hospital/ward"),
    "models=[logistic_regression]",
    "models.logistic_regression.trials=2",
    "evaluation.resamples=50",
]
Call = Callable[..., CommandResult]


@pytest.fixture
def machines(
    s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Call]:
    """Calls the command line on machine ``first`` or ``second``, which share MLflow and bucket."""
    gates = tmp_path / "conf" / "promotion"
    gates.mkdir(parents=True)
    (gates / "lenient.yaml").write_text(LENIENT_GATES, encoding="utf-8")
    server = mlflow_server(tmp_path)
    server.command[-1] = "s3://hospital/mlflow"  # --artifacts-destination
    monkeypatch.setenv("FLOWSHEET_STORE", "s3://hospital/store")
    monkeypatch.setenv("FLOWSHEET_LEASE_SECONDS", "2")

    def call(machine: str, *arguments: str, exit_code: int = 0) -> CommandResult:
        monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / machine))
        capfd.readouterr()
        code = 0
        try:
            main(list(arguments))
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capfd.readouterr()
        assert code == exit_code, captured.out + captured.err
        assert "Traceback" not in captured.err
        return CommandResult(code, captured.out, captured.err)

    with server.running():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        yield call


def answer(folder: Path, extract: Extract) -> None:
    """Keep a server's answers about every stay."""
    version = model_registry.get_version_by_alias(NAME, "champion")
    package = registered_packages.load_package(version)
    champion = LoadedModel(NAME, version.version, "champion", package, datetime.now(UTC))
    log = AnswerLog(folder, NAME, Metrics(), keep_subjects=True)
    log.start()
    tables = extract.tables()
    requests = [
        PredictRequest(encode_body(select_stays(tables, stay)))
        for stay in tables.stays["stay_id"].to_list()
    ]
    Scorer(lambda: champion, Limits(), log.add).score_requests(requests)
    log.close(30)


def stop_for(s3: S3Server, seconds: float) -> None:
    """Stop the server now, and start it again after some seconds."""
    s3.stop()
    threading.Timer(seconds, s3.start).start()


def test_a_model_lives_on_two_machines_that_share_a_bucket(
    machines: Call, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def run(machine: str, *overrides: str) -> str:
        """An experiment, in its own process: Prefect reads its settings once."""
        monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / machine))
        command = [sys.executable, "-m", "flowsheet", *RUN, *overrides]
        result = subprocess.run(command, capture_output=True, timeout=600, check=False)
        lines = result.stderr.decode()
        assert result.returncode == 0, lines
        return lines

    for name, stays in (("ward", "200"), ("elsewhere", "150")):
        cohort = ["--cohort", "simulated_small", "--seed", str(len(name))]
        machines("first", "simulate", f"s3://hospital/{name}", "--stays", stays, *cohort)
    run("first")
    assert "[logistic_regression] reused" in run("second")
    gates = ["--config", "lenient", "--conf", str(tmp_path / "conf")]
    machines("first", "promote", NAME, *gates, "--version", "1", "--reason", "first")
    run("second", "models.logistic_regression.trials=1")
    machines("second", "promote", NAME, *gates, "--version", "2", "--reason", "second")
    machines("first", "rollback", NAME, "--reason", "not that one")
    assert model_registry.get_version_by_alias(NAME, "champion").version == 1

    champion = f"{NAME}@champion"
    elsewhere = "s3://hospital/elsewhere"
    report = "s3://hospital/reports/evaluation.html"
    s3.stop()
    lost = machines("second", "evaluate", champion, elsewhere, "--out", report, exit_code=1)
    assert "the object store does not answer" in lost.stderr
    s3.start()
    machines("second", "evaluate", champion, elsewhere, "--out", report)
    monkeypatch.setenv("FLOWSHEET_STORAGE_RETRY_SECONDS", "60")
    stop_for(s3, 4)
    monitored = "s3://hospital/reports/drift.html"
    machines("first", "monitor", champion, "s3://hospital/ward", "--out", monitored)
    machines("second", "score", champion, elsewhere, "--out", "s3://hospital/reports/risks.parquet")
    names = {entry.name for entry in folder("reports").list()}
    assert names == {"evaluation.html", "drift.html", "risks.parquet"}
    extract = Extract.open(local_extract(folder("elsewhere")))
    stay, subject = extract.tables().stays.select("stay_id", "subject_id").row(0)
    explained = machines("second", "explain", champion, elsewhere, "--stay", str(stay))
    assert f"{stay}" in explained.stdout

    answers = tmp_path / "answers"
    answer(answers, extract)
    stop_for(s3, 4)
    page = "s3://hospital/reports/outcomes.html"
    machines("first", "outcomes", str(answers), elsewhere, "--out", page)
    assert folder("reports").read("outcomes.html") is not None

    machines("second", "erase", str(subject), "--in", elsewhere, "--reason", "asked for")
    again = Extract.open(local_extract(folder("elsewhere")))
    assert subject not in again.tables().stays["subject_id"].to_list()
    shared = [entry.name for entry in folder("store").list()]
    assert not any(".leases/" in name for name in shared)
    assert re.search(r"erased", machines("first", "ls", "decisions").stdout)
    machines("first", "evaluate", champion, elsewhere)
    for evaluation in _list_stages(tmp_path / "second"):
        assert subject not in pl.read_parquet(evaluation)["subject_id"].to_list()
    newest = max(_list_stages(tmp_path / "first"), key=lambda file: file.stat().st_mtime)
    assert subject not in pl.read_parquet(newest)["subject_id"].to_list()


def _list_stages(home: Path) -> list[Path]:
    """The predictions of a machine's evaluations."""
    return sorted((home / "store" / "evaluation").glob("[!.]*/predictions.parquet"))
