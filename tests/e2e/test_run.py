"""The main job, from words on the command line to registered models, over real servers."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flowsheet.lifecycle.runtime.local_servers import prefect_api, use_quiet_settings
from flowsheet.state.json_files import read_json
from tests.e2e.conftest import SMALL, ask, command, flowsheet

pytestmark = [pytest.mark.server]


def evidence(home: Path) -> pl.DataFrame:
    """The leaderboard of the only experiment."""
    (folder,) = (home / "store" / "evidence").iterdir()
    return pl.read_parquet(folder / "leaderboard.parquet")


def trials(home: Path) -> dict[str, list[dict[str, Any]]]:
    """What every model's trials came to, without how long they took."""
    found = {}
    for file in sorted((home / "store" / "model").glob("*/tuning.json")):
        kind = read_json(file.parent / "model_package" / "package.json")["kind"]
        found[kind] = [
            {k: v for k, v in t.items() if k != "seconds"} for t in read_json(file)["trials"]
        ]
    return found


def tracked(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All MLflow runs."""
    monkeypatch.setenv("FLOWSHEET_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from flowsheet.tracking.store import connect

    client = connect()
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


def level(runs: list[Any], name: str) -> list[Any]:
    return [run for run in runs if run.data.tags["flowsheet.level"] == name]


def versions(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """All registered versions."""
    monkeypatch.setenv("FLOWSHEET_HOME", str(home))
    from flowsheet.tracking.store import connect

    return sorted((v.name, str(v.version)) for v in connect().search_model_versions())


def test_every_run_is_recorded_and_every_model_registered(
    finished: Path, monkeypatch: pytest.MonkeyPatch
):
    runs = tracked(finished, monkeypatch)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert [len(level(runs, name)) for name in ("experiment", "model", "trial")] == [1, 2, 5]
    for run in level(runs, "model"):
        assert {
            "test.auroc",
            "test.auroc.low",
            "test.auprc",
            "valid.auprc",
        } <= run.data.metrics.keys()
    (parent,) = level(runs, "experiment")
    assert {
        "task.horizon",
        "seed",
        "fingerprint.extract",
        "fingerprint.split",
    } <= parent.data.params.keys()
    assert versions(finished, monkeypatch) == [
        ("demo-logistic_regression", "1"),
        ("demo-lstm", "1"),
    ]


def test_the_prefect_page_has_every_task_and_the_leaderboard(
    finished: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FLOWSHEET_HOME", str(finished))
    for name in [n for n in os.environ if n.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(finished / "prefect"))
    use_quiet_settings()
    with prefect_api() as api:
        states = {run["state_type"] for run in ask(api, "/flow_runs/filter", {})}
        tasks = {run["name"]: run["state_type"] for run in ask(api, "/task_runs/filter", {})}
        artifacts = ask(api, "/artifacts/filter", {})
    assert states == {"COMPLETED"}
    assert set(tasks.values()) == {"COMPLETED"}
    assert set(tasks) == {
        "ingest",
        "windows",
        "split",
        "train-logistic_regression",
        "train-lstm",
        "evaluate",
        "record and register",
    }
    assert any(a["key"] == "leaderboard" and "lstm" in a["data"] for a in artifacts)


def test_an_unchanged_experiment_is_reused_whole(finished: Path, monkeypatch: pytest.MonkeyPatch):
    before, runs = evidence(finished), len(tracked(finished, monkeypatch))
    again = flowsheet(finished, "run", *SMALL)
    assert again.returncode == 0, again.stderr
    assert "reused: extract, windows, split, logistic_regression, lstm, evidence" in again.stdout
    assert evidence(finished).equals(before)
    assert len(tracked(finished, monkeypatch)) == runs
    assert {version for _, version in versions(finished, monkeypatch)} == {"1"}


@pytest.mark.slow
def test_the_same_record_gives_the_same_numbers(finished: Path, tmp_path: Path):
    done = flowsheet(tmp_path / "other", "run", *SMALL, "compute=single")
    assert done.returncode == 0, done.stderr
    assert evidence(tmp_path / "other").equals(evidence(finished))
    assert trials(tmp_path / "other") == trials(finished)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))]
)
def test_a_run_that_was_killed_goes_on_to_the_same_end(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
):
    home, chance = tmp_path / "killed", random.Random(seed)
    for _ in range(3):
        line, environment = command(home, "run", *SMALL)
        process = subprocess.Popen(
            line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(chance.uniform(4, 30))
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = flowsheet(home, "run", *SMALL)
    assert done.returncode == 0, done.stderr
    assert evidence(home).equals(evidence(finished))
    assert trials(home) == trials(finished)
    runs = tracked(home, monkeypatch)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert [len(level(runs, name)) for name in ("experiment", "model", "trial")] == [1, 2, 5]
    assert versions(home, monkeypatch) == [("demo-logistic_regression", "1"), ("demo-lstm", "1")]
    shutil.rmtree(home, ignore_errors=True)


def test_a_run_that_is_told_to_stop_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    home, log = tmp_path / "stopped", tmp_path / "log"
    line, environment = command(home, "run", *SMALL, "models.lstm.params.epochs=300")
    with log.open("wb") as said:
        process = subprocess.Popen(line, env=environment, stdout=said, stderr=said)
    deadline = time.monotonic() + 300
    while "[lstm] epoch" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.terminate()
    assert process.wait(timeout=120) == 130
    assert "stopped" in log.read_text().splitlines()
    assert "[lstm] done" not in log.read_text()  # it did not wait for that
    assert "Traceback" not in log.read_text()
    assert not (home / "prefect" / "server.json").exists()
    assert {run.info.status for run in tracked(home, monkeypatch)} <= {"KILLED", "FINISHED"}
    assert level(tracked(home, monkeypatch), "experiment")[0].info.status == "KILLED"
