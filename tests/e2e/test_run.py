"""An experiment from the command line to registered models, over real servers."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flowsheet.lifecycle.runtime.local_servers import prefect_api, use_quiet_settings
from flowsheet.state.json_files import read_json
from flowsheet.tracking.registered_names import list_references
from tests.e2e.conftest import SMALL, flowsheet_command, log_in, post, run_flowsheet

pytestmark = [pytest.mark.server]


def read_leaderboard(home: Path) -> pl.DataFrame:
    """The leaderboard of the only experiment."""
    (folder,) = (home / "store" / "evidence").iterdir()
    return pl.read_parquet(folder / "leaderboard.parquet")


def read_trials(home: Path) -> dict[str, list[dict[str, Any]]]:
    """{kind of model: trials}, without their durations."""
    trials = {}
    for file in sorted((home / "store" / "model").glob("*/tuning.json")):
        kind = read_json(file.parent / "model_package" / "package.json")["kind"]
        trials[kind] = read_json(file)["trials"]
        for trial in trials[kind]:
            del trial["seconds"]
    return trials


def list_mlflow_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setenv("FLOWSHEET_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from flowsheet.tracking.store import connect

    client = connect()
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


def runs_of_level(runs: list[Any], level: str) -> list[Any]:
    return [run for run in runs if run.data.tags["flowsheet.level"] == level]


def count_levels(runs: list[Any]) -> dict[str, int]:
    return {level: len(runs_of_level(runs, level)) for level in ("experiment", "model", "trial")}


def list_versions(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(name, version) of all registered versions."""
    monkeypatch.setenv("FLOWSHEET_HOME", str(home))
    from flowsheet.tracking.store import connect

    return sorted((v.name, str(v.version)) for v in connect().search_model_versions())


def test_every_run_is_recorded(finished: Path, monkeypatch: pytest.MonkeyPatch):
    runs = list_mlflow_runs(finished, monkeypatch)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert count_levels(runs) == {"experiment": 1, "model": 2, "trial": 5}
    expected_metrics = {"test.auroc", "test.auroc.low", "test.auprc", "valid.auprc"}
    for run in runs_of_level(runs, "model"):
        assert expected_metrics <= run.data.metrics.keys()
    (parent,) = runs_of_level(runs, "experiment")
    expected_params = {"task.horizon", "seed", "fingerprint.extract", "fingerprint.split"}
    assert expected_params <= parent.data.params.keys()


def test_every_model_is_registered(finished: Path, monkeypatch: pytest.MonkeyPatch):
    versions = list_versions(finished, monkeypatch)
    assert versions == [("demo-logistic_regression", "1"), ("demo-lstm", "1")]


def test_listings_report_and_clean_of_a_finished_run(
    finished: Path, call_flowsheet, tmp_path: Path, monkeypatch
):
    runs = json.loads(call_flowsheet(finished, "ls", "runs", "--json").stdout)
    assert runs[-1]["experiment"] == "demo"
    studies = json.loads(call_flowsheet(finished, "ls", "studies", "--json").stdout)
    assert {study["model"] for study in studies} >= {"lstm", "logistic_regression"}
    assert {type(study["trials"]) for study in studies} == {int}
    assert {type(study["best"]) for study in studies} == {float}
    registry = json.loads(call_flowsheet(finished, "ls", "registry", "--json").stdout)
    assert registry[0]["latest"] == 1
    out = tmp_path / "report.html"
    result = call_flowsheet(finished, "report", runs[-1]["run"], "--out", str(out))
    assert result.returncode == 0, result.stderr
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    listed = json.loads(call_flowsheet(finished, "clean", "--older-than", "0", "--json").stdout)
    needed = [folder for folder in listed if folder["kind"] == "extract"]
    assert needed[0]["needed_by"].startswith("demo-")
    monkeypatch.setenv("FLOWSHEET_HOME", str(finished))
    assert "demo-lstm/1" in list_references()


def test_the_prefect_page_shows_every_task_and_the_leaderboard(
    finished: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FLOWSHEET_HOME", str(finished))
    monkeypatch.setenv("PREFECT_HOME", str(finished / "prefect"))
    use_quiet_settings()
    with prefect_api() as api:
        headers = log_in(api)
        flow_runs = post(api, "/flow_runs/filter", {}, headers)
        task_runs = post(api, "/task_runs/filter", {}, headers)
        artifacts = post(api, "/artifacts/filter", {}, headers)
    assert {run["state_type"] for run in flow_runs} == {"COMPLETED"}
    assert {run["state_type"] for run in task_runs} == {"COMPLETED"}
    assert {run["name"] for run in task_runs} == {
        "ingest",
        "windows",
        "split",
        "train-logistic_regression",
        "train-lstm",
        "evaluate",
        "record and register",
    }
    assert any(a["key"] == "leaderboard" and "LSTM" in a["data"] for a in artifacts)
    assert {tuple(run["tags"]) for run in flow_runs} == {("experiment: demo",)}
    assert "model: lstm" in next(run["tags"] for run in task_runs if run["name"] == "train-lstm")
    upstream = upstream_tasks(task_runs)
    assert upstream["windows"] == {"ingest"}
    assert upstream["train-lstm"] == {"windows", "split"}
    assert upstream["evaluate"] >= {"train-logistic_regression", "train-lstm"}
    assert upstream["record and register"] >= {"evaluate"}


def upstream_tasks(task_runs: list[dict[str, Any]]) -> dict[str, set[str]]:
    """{task: tasks whose results it needs}, the edges of the page's graph."""
    names = {run["id"]: run["name"] for run in task_runs}
    return {
        run["name"]: {
            names[given["id"]]
            for inputs in run["task_inputs"].values()
            for given in inputs
            if given["input_type"] == "task_run"
        }
        for run in task_runs
    }


def test_an_unchanged_experiment_is_reused(finished: Path, monkeypatch: pytest.MonkeyPatch):
    leaderboard = read_leaderboard(finished)
    runs = list_mlflow_runs(finished, monkeypatch)
    versions = list_versions(finished, monkeypatch)
    result = run_flowsheet(finished, "run", *SMALL)
    assert result.returncode == 0, result.stderr
    assert "reused: extract, windows, split, logistic_regression, lstm, evidence" in result.stdout
    assert read_leaderboard(finished).equals(leaderboard)
    assert len(list_mlflow_runs(finished, monkeypatch)) == len(runs)
    assert list_versions(finished, monkeypatch) == versions


@pytest.mark.slow
def test_the_results_are_reproducible(finished: Path, tmp_path: Path):
    other = tmp_path / "other"
    result = run_flowsheet(other, "run", *SMALL, "compute=single")
    assert result.returncode == 0, result.stderr
    assert read_leaderboard(other).equals(read_leaderboard(finished))
    assert read_trials(other) == read_trials(finished)


def kill_at(home: Path, line: str) -> None:
    """Start the experiment; kill it as soon as it prints ``line``, or let it end."""
    command, environment = flowsheet_command(home, "run", *SMALL)
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for printed in process.stdout:
            if line in printed.decode():
                process.kill()
                return


def kill_after(home: Path, seconds: float) -> None:
    """Start the experiment; kill it after some seconds."""
    command, environment = flowsheet_command(home, "run", *SMALL)
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    process.kill()
    process.wait()


def check_resumes(home: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The experiment, killed before, ends with the results of one that was not."""
    result = run_flowsheet(home, "run", *SMALL)
    assert result.returncode == 0, result.stderr
    assert read_leaderboard(home).equals(read_leaderboard(finished))
    assert read_trials(home) == read_trials(finished)
    runs = list_mlflow_runs(home, monkeypatch)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert count_levels(runs) == {"experiment": 1, "model": 2, "trial": 5}
    versions = list_versions(home, monkeypatch)
    assert versions == [("demo-logistic_regression", "1"), ("demo-lstm", "1")]


def test_a_run_that_was_killed_resumes_to_the_same_results(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kill_at(tmp_path / "killed", "[evaluate] done")  # tests/tuning kills searches
    check_resumes(tmp_path / "killed", finished, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_run_that_was_killed_at_any_time_resumes_to_the_same_results(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
):
    rng = random.Random(seed)
    for _ in range(3):
        kill_after(tmp_path / "killed", rng.uniform(4, 30))
    check_resumes(tmp_path / "killed", finished, monkeypatch)


@pytest.mark.slow
def test_a_run_that_is_terminated_stops_at_once_and_leaves_no_open_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    home = tmp_path / "terminated"
    shutil.copytree(finished, home)  # so that only the LSTM is left to train
    log = tmp_path / "log"
    arguments = ["run", *SMALL, "models.lstm.params.epochs=300"]
    command, environment = flowsheet_command(home, *arguments)
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    deadline = time.monotonic() + 300
    while "[lstm] epoch" not in log.read_text(encoding="utf-8"):
        assert process.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.terminate()
    assert process.wait(timeout=120) == 130
    text = log.read_text(encoding="utf-8")
    assert "stopped; start it again to go on" in text.splitlines()
    assert "[lstm] done" not in text  # the training was not waited for
    assert "Traceback" not in text
    assert not (home / "prefect" / "server.json").exists()
    runs = list_mlflow_runs(home, monkeypatch)
    assert {run.info.status for run in runs} <= {"KILLED", "FINISHED"}
    statuses = [run.info.status for run in runs_of_level(runs, "experiment")]
    assert sorted(statuses) == ["FINISHED", "KILLED"]
