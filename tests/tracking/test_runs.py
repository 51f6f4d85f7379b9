from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from flowsheet.tracking.runs import DataSet, Tracker, list_runs
from flowsheet.tracking.store import RetryingClient, TrackerUnreachable, connect, tracking_uri


@dataclass(frozen=True)
class Told:
    number: int
    state: str = "complete"
    value: float | None = 0.5
    seconds: float = 1.5
    params: dict = field(default_factory=lambda: {"hidden": 8, "layers": [1, 2], "none": None})
    curve: dict = field(default_factory=lambda: {0: 0.1, 1: 0.4})
    error: str | None = None


TRIALS = [
    Told(0),
    Told(1, "pruned", 0.2),
    Told(2, "failed", None, error="ArithmeticError: no"),
    Told(3),
]
DATA = [DataSet("ward", "d" * 64, "simulated", counts={"stays": 10})]


@pytest.fixture
def tracker(store):
    return Tracker.open()


def runs(config, **tags):
    client = connect()
    experiment = client.get_experiment_by_name(config.name)
    text = " and ".join(f"tags.`{k.replace('__', '.')}` = '{v}'" for k, v in tags.items())
    return client.search_runs([experiment.experiment_id], text, max_results=1000)


def everything(run):
    """What a run holds, with every point of every metric."""
    client = connect()
    history = {
        m: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, m)]
        for m in run.data.metrics
    }
    tags = {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.log")}
    files = sorted(f.path for f in client.list_artifacts(run.info.run_id))
    inputs = [(d.dataset.name, d.dataset.digest) for d in run.inputs.dataset_inputs]
    return {
        "params": run.data.params,
        "tags": tags,
        "metrics": history,
        "files": files,
        "inputs": inputs,
    }


def whole(tracker, config, finish=True):
    parent = tracker.start_experiment_run(config, "key1", {"data.fingerprint": "abc"}, DATA)
    child = tracker.start_model_run(parent.run_id, "logistic", "training1", {"l2": 0.5})
    tracker.sync_trials(child, "auprc", TRIALS)
    tracker.log(child, metrics={"test.auroc": 0.75, "test.slope": None, "test.nan": float("nan")})
    tracker.set_description(parent.run_id, "# Leaderboard")
    if finish:
        tracker.finish(child)
        tracker.finish(parent.run_id)
    return parent, child


def test_an_experiment_is_recorded_as_a_tree(tracker, config):
    parent, child = whole(tracker, config)
    levels = Counter(run.data.tags["flowsheet.level"] for run in runs(config))
    assert levels == {"experiment": 1, "model": 1, "trial": 4}
    (top,) = runs(config, flowsheet__level="experiment")
    assert top.info.run_id == parent.run_id
    assert top.data.params["task.horizon"] == "1"
    assert top.data.params["features.aggregations"] == "last, max"
    assert top.data.params["data.fingerprint"] == "abc"
    assert top.data.params["seed"] == "3"
    assert "compute.threads" not in top.data.params
    assert top.data.tags["mlflow.note.content"] == "# Leaderboard"
    assert top.data.tags["flowsheet.version"]
    (model,) = runs(config, mlflow__parentRunId=parent.run_id)
    assert model.info.run_id == child
    assert model.info.run_name == "logistic"
    assert model.data.params == {"model": "logistic", "model.l2": "0.5"}
    assert model.data.metrics == {"test.auroc": 0.75}


def test_trials_hold_their_parameters_curve_and_end(tracker, config):
    _, child = whole(tracker, config)
    trials = {
        int(run.data.tags["flowsheet.trial"]): run
        for run in runs(config, mlflow__parentRunId=child)
    }
    assert {n: (t.info.status, t.data.tags["flowsheet.state"]) for n, t in trials.items()} == {
        0: ("FINISHED", "complete"),
        1: ("FINISHED", "pruned"),
        2: ("FAILED", "failed"),
        3: ("FINISHED", "complete"),
    }
    first = everything(trials[0])
    assert first["params"] == {"model.hidden": "8", "model.layers": "1, 2"}
    assert first["metrics"] == {
        "valid.auprc": [(0, 0.5)],
        "epoch.auprc": [(0, 0.1), (1, 0.4)],
        "seconds": [(0, 1.5)],
    }
    assert trials[2].data.tags["flowsheet.error"] == "ArithmeticError: no"
    assert "valid.auprc" not in trials[2].data.metrics


def test_the_parent_keeps_what_a_repetition_needs(tracker, config, tmp_path):
    from flowsheet.config import ExperimentConfig

    parent, _ = whole(tracker, config)
    folder = connect().download_artifacts(parent.run_id, "", str(tmp_path))
    from omegaconf import OmegaConf

    assert (
        ExperimentConfig.model_validate(
            OmegaConf.to_container(OmegaConf.load(f"{folder}/config.yaml"))
        )
        == config
    )
    assert "mlflow==" in (tmp_path / "requirements.txt").read_text()
    assert '"python"' in (tmp_path / "environment.json").read_text()
    (top,) = runs(config, flowsheet__level="experiment")
    assert [(d.dataset.name, len(d.dataset.digest)) for d in top.inputs.dataset_inputs] == [
        ("ward", 36)
    ]


def test_everything_twice_is_the_same_as_once(tracker, config):
    whole(tracker, config, finish=False)
    before = {run.info.run_id: everything(run) for run in runs(config)}
    whole(tracker, config, finish=False)
    assert {run.info.run_id: everything(run) for run in runs(config)} == before


def test_a_finished_experiment_is_found_and_another_key_is_another_run(tracker, config):
    parent, _ = whole(tracker, config)
    again = tracker.start_experiment_run(config, "key1")
    assert (again.run_id, again.finished) == (parent.run_id, True)
    other = tracker.start_experiment_run(config, "key2")
    assert other.run_id != parent.run_id
    assert not other.finished


def test_a_failure_ends_what_is_below_and_nothing_else(tracker, config):
    parent, other = (
        tracker.start_experiment_run(config, "key1"),
        tracker.start_experiment_run(config, "key2"),
    )
    child = tracker.start_model_run(parent.run_id, "logistic", "training1")
    fold = tracker.start_fold_run(child, "logistic", "fold-0", "training1")
    theirs = tracker.start_model_run(other.run_id, "logistic", "training2")
    tracker.fail(parent.run_id, "the ward burned down")
    held = {run.info.run_id: run.info.status for run in runs(config)}
    assert held == {
        parent.run_id: "FAILED", child: "KILLED", fold: "KILLED", other.run_id: "RUNNING", theirs: "RUNNING",
    }  # fmt: skip


def test_what_killed_processes_left_open_is_closed(tracker, config):
    started = {
        name: tracker.start_experiment_run(config, name, run_lock=name).run_id
        for name in ("dead", "alive", "done")
    }
    unknown = tracker.start_experiment_run(config, "unknown").run_id
    below = tracker.start_model_run(started["dead"], "logistic", "training1")
    tracker.finish(started["done"])
    asked = []

    @contextlib.contextmanager
    def is_stale(run_lock):
        asked.append(run_lock)
        yield run_lock == "dead"

    tracker.close_stale_runs(is_stale)
    held = {run.info.run_id: run.info.status for run in runs(config)}
    assert held == {
        started["dead"]: "KILLED", below: "KILLED", started["alive"]: "RUNNING", started["done"]: "FINISHED",
        unknown: "RUNNING",
    }  # fmt: skip
    assert "done" not in asked
    for run in (started["alive"], unknown):
        tracker.finish(run)
    again = tracker.start_experiment_run(config, "dead", run_lock="later")
    assert (again.run_id, again.finished) == (started["dead"], False)
    (taken_up,) = runs(config, flowsheet__run_lock="later")
    assert taken_up.info.status == "RUNNING"


def test_notes_that_nobody_finished_are_closed_after_a_day(tracker, config):
    experiment = tracker.start_experiment_run(config, "key1").experiment_id
    now = int(time.time() * 1000)
    made = {
        connect()
        .create_run(experiment, start_time=now - hours * 3_600_000, tags={"flowsheet.level": level})
        .info.run_id
        for hours, level in ((1, "event"), (25, "event"), (25, "comparison"))
    }
    tracker.close_stale_runs(lambda run_lock: contextlib.nullcontext(False))
    held = {run.info.run_id: run.info.status for run in runs(config)}
    assert sorted(held[run] for run in made) == ["KILLED", "KILLED", "RUNNING"]


@pytest.mark.parametrize("killed", [None, False, True])
def test_an_unfinished_experiment_is_taken_up(tracker, config, killed):
    parent = tracker.start_experiment_run(config, "key1")
    if killed is not None:
        tracker.fail(parent.run_id, "the ward burned down", killed=killed)
    again = tracker.start_experiment_run(config, "key1")
    assert (again.run_id, again.finished) == (parent.run_id, False)
    (top,) = runs(config, flowsheet__level="experiment")
    assert top.info.status == "RUNNING"


def test_a_trial_cut_off_while_it_was_recorded_is_completed(tracker, config):
    parent = tracker.start_experiment_run(config, "key1")
    child = tracker.start_model_run(parent.run_id, "logistic", "training1")
    first = {"mlflow.parentRunId": child, "flowsheet.trial": "0"}
    tracker._create(
        parent.experiment_id, "trial", "trial 0", first
    )  # what a kill after the first call leaves
    tracker.sync_trials(child, "auprc", TRIALS)
    trials = runs(config, mlflow__parentRunId=child)
    assert sorted(run.data.tags["flowsheet.trial"] for run in trials) == ["0", "1", "2", "3"]
    assert all(run.data.params["model.hidden"] == "8" for run in trials)


def test_many_values_fit(tracker, config):
    parent = tracker.start_experiment_run(config, "key1")
    tracker.log(
        parent.run_id,
        params={f"p{i}": "x" * 6000 for i in range(250)},
        metrics={f"m{i}": i for i in range(250)},
        curves={"c": dict.fromkeys(range(1500), 0.5)},
    )
    (run,) = runs(config)
    assert len(run.data.metrics) == 251
    assert len(run.data.params) > 250


def test_a_deleted_experiment_comes_back(tracker, config):
    tracker.start_experiment_run(config, "key1")
    connect().delete_experiment(connect().get_experiment_by_name(config.name).experiment_id)
    assert not tracker.start_experiment_run(config, "key2").finished


def test_an_experiment_that_another_machine_makes_at_the_same_moment_is_taken(
    tracker, config, monkeypatch
):
    client = tracker._client._client
    create = client.create_experiment
    monkeypatch.setattr(
        client, "create_experiment", lambda *a, **k: (create(*a, **k), create(*a, **k))
    )
    assert tracker.start_experiment_run(config, "k" * 64) == tracker.start_experiment_run(
        config, "k" * 64
    )


def test_runs_are_listed_newest_first(tracker, config):
    parent, _ = whole(tracker, config)
    tracker.log(parent.run_id, tags={"flowsheet.best": "logistic 0.750"})
    header, rows = list_runs()
    row = dict(zip(header, rows[0], strict=True))
    assert row["run"] == parent.run_id
    assert (row["experiment"], row["status"], row["best"]) == (
        config.name,
        "finished",
        "logistic 0.750",
    )


def test_listing_makes_no_store(flowsheet_home):
    assert list_runs()[1] == []
    assert not (flowsheet_home / "mlflow" / "mlflow.db").exists()


def test_a_locked_file_is_waited_for(monkeypatch):
    import flowsheet.tracking.store as module

    class Busy:
        calls = 0

        def get(self, value):
            self.calls += 1
            if self.calls < 4:
                raise RuntimeError("(sqlite3.OperationalError) database is locked")
            if value is None:
                raise KeyError("something else")
            return value

    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    assert RetryingClient(Busy()).get(7) == 7
    with pytest.raises(KeyError, match="something else"):
        RetryingClient(Busy()).get(None)


def test_a_server_that_does_not_answer_is_told_in_words(monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:hush@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = RetryingClient(MlflowClient(tracking_uri=tracking_uri()))
    with pytest.raises(TrackerUnreachable, match="the MLflow server does not answer") as caught:
        client.get_run("0" * 32)
    assert caught.value.where == "http://127.0.0.1:1"


WRITER = """
import sys
from flowsheet.tracking.runs import Tracker
tracker, run = Tracker.open(), sys.argv[1]
for i in range(15):
    tracker.start_model_run(run, f"m{sys.argv[2]}_{i}", "key", {"a": i})
"""


def test_several_processes_write_one_file(tracker, config):
    parent = tracker.start_experiment_run(config, "key1")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, parent.run_id, str(n)]) for n in range(2)
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    assert len(runs(config, flowsheet__level="model")) == 30


def test_nobody_is_told_about_it():
    """Telemetry is off before mlflow is imported."""
    code = (
        "from flowsheet.tracking.store import connect; import os; connect();"
        "assert os.environ['MLFLOW_DISABLE_TELEMETRY'] == 'true';"
        "from mlflow.telemetry.utils import is_telemetry_disabled; assert is_telemetry_disabled();"
        "from mlflow.telemetry.client import get_telemetry_client; assert get_telemetry_client() is None"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
