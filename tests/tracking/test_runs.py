from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from flowsheet.tracking.datasets import DataSet
from flowsheet.tracking.runs import Tracker
from flowsheet.tracking.store import connect


@dataclass(frozen=True)
class FinishedTrial:
    number: int
    state: str = "complete"
    value: float | None = 0.5
    seconds: float = 1.5
    params: dict = field(default_factory=lambda: {"hidden": 8, "layers": [1, 2], "none": None})
    curve: dict = field(default_factory=lambda: {0: 0.1, 1: 0.4})
    error: str | None = None


TRIALS = [
    FinishedTrial(0),
    FinishedTrial(1, "pruned", 0.2),
    FinishedTrial(2, "failed", None, error="ArithmeticError: no"),
    FinishedTrial(3),
]
DATA = [DataSet("ward", "d" * 64, "simulated", counts={"stays": 10})]


@pytest.fixture
def tracker(store) -> Tracker:
    return Tracker.open()


def search_runs(config, **tags) -> list:
    """Runs of an experiment with these tags; ``__`` in a name stands for a dot."""
    client = connect()
    experiment = client.get_experiment_by_name(config.name).experiment_id
    query = " and ".join(
        f"tags.`{name.replace('__', '.')}` = '{value}'" for name, value in tags.items()
    )
    return client.search_runs([experiment], query, max_results=1000)


def get_experiment_run(config):
    (run,) = search_runs(config, flowsheet__level="experiment")
    return run


def get_statuses(config) -> dict[str, str]:
    return {run.info.run_id: run.info.status for run in search_runs(config)}


def get_content(run) -> dict[str, Any]:
    """Everything that is recorded in a run, with every point of every metric."""
    client = connect()
    run_id = run.info.run_id
    histories = {metric: client.get_metric_history(run_id, metric) for metric in run.data.metrics}
    return {
        "params": run.data.params,
        "tags": {
            name: value
            for name, value in run.data.tags.items()
            if not name.startswith("mlflow.log")
        },
        "metrics": {
            metric: [(point.step, point.value) for point in points]
            for metric, points in histories.items()
        },
        "files": sorted(file.path for file in client.list_artifacts(run_id)),
        "inputs": [(d.dataset.name, d.dataset.digest) for d in run.inputs.dataset_inputs],
    }


def record_experiment(tracker, config, finish=True):
    """Record an experiment with one model and four trials; returns its run and the model's."""
    parent = tracker.start_experiment_run(config, "key1", {"data.fingerprint": "abc"}, DATA)
    model_run = tracker.start_model_run(parent.run_id, "logistic", "training1", {"l2": 0.5})
    tracker.sync_trials(model_run, "auprc", TRIALS)
    metrics = {"test.auroc": 0.75, "test.slope": None, "test.nan": float("nan")}
    tracker.log(model_run, metrics=metrics)
    tracker.set_description(parent.run_id, "# Leaderboard")
    if finish:
        tracker.finish(model_run)
        tracker.finish(parent.run_id)
    return parent, model_run


def test_an_experiment_is_recorded_as_a_tree_of_runs(tracker, config):
    parent, model_run = record_experiment(tracker, config)
    levels = Counter(run.data.tags["flowsheet.level"] for run in search_runs(config))
    assert levels == {"experiment": 1, "model": 1, "trial": 4}
    experiment_run = get_experiment_run(config)
    assert experiment_run.info.run_id == parent.run_id
    assert experiment_run.data.params["task.horizon"] == "1"
    assert experiment_run.data.params["features.aggregations"] == "last, max"
    assert experiment_run.data.params["data.fingerprint"] == "abc"
    assert experiment_run.data.params["seed"] == "3"
    assert "compute.threads" not in experiment_run.data.params
    assert experiment_run.data.tags["mlflow.note.content"] == "# Leaderboard"
    assert experiment_run.data.tags["flowsheet.version"]
    (model,) = search_runs(config, mlflow__parentRunId=parent.run_id)
    assert model.info.run_id == model_run
    assert model.info.run_name == "logistic"
    assert model.data.params == {"model": "logistic", "model.l2": "0.5"}
    assert model.data.metrics == {"test.auroc": 0.75}


def test_trials_have_their_parameters_curve_and_state(tracker, config):
    _, model_run = record_experiment(tracker, config)
    trials = {
        int(run.data.tags["flowsheet.trial"]): run
        for run in search_runs(config, mlflow__parentRunId=model_run)
    }
    states = {
        number: (run.info.status, run.data.tags["flowsheet.state"])
        for number, run in trials.items()
    }
    assert states == {
        0: ("FINISHED", "complete"),
        1: ("FINISHED", "pruned"),
        2: ("FAILED", "failed"),
        3: ("FINISHED", "complete"),
    }
    first = get_content(trials[0])
    assert first["params"] == {"model.hidden": "8", "model.layers": "1, 2"}
    assert first["metrics"] == {
        "valid.auprc": [(0, 0.5)],
        "epoch.auprc": [(0, 0.1), (1, 0.4)],
        "seconds": [(0, 1.5)],
    }
    assert trials[2].data.tags["flowsheet.error"] == "ArithmeticError: no"
    assert "valid.auprc" not in trials[2].data.metrics


def test_the_experiment_run_has_everything_that_a_rerun_needs(tracker, config, tmp_path):
    from omegaconf import OmegaConf

    from flowsheet.config import ExperimentConfig

    parent, _ = record_experiment(tracker, config)
    connect().download_artifacts(parent.run_id, "", str(tmp_path))
    recorded = OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml"))
    assert ExperimentConfig.model_validate(recorded) == config
    assert "mlflow==" in (tmp_path / "requirements.txt").read_text(encoding="utf-8")
    assert '"python"' in (tmp_path / "environment.json").read_text(encoding="utf-8")
    inputs = get_experiment_run(config).inputs.dataset_inputs
    assert [(d.dataset.name, len(d.dataset.digest)) for d in inputs] == [("ward", 36)]


def test_recording_twice_changes_nothing(tracker, config):
    record_experiment(tracker, config, finish=False)
    before = {run.info.run_id: get_content(run) for run in search_runs(config)}
    record_experiment(tracker, config, finish=False)
    after = {run.info.run_id: get_content(run) for run in search_runs(config)}
    assert after == before


def test_a_finished_experiment_is_found_by_its_key(tracker, config):
    parent, _ = record_experiment(tracker, config)
    again = tracker.start_experiment_run(config, "key1")
    assert (again.run_id, again.finished) == (parent.run_id, True)
    other = tracker.start_experiment_run(config, "key2")
    assert other.run_id != parent.run_id
    assert not other.finished


def test_a_failure_closes_the_child_runs_and_no_others(tracker, config):
    parent = tracker.start_experiment_run(config, "key1")
    model_run = tracker.start_model_run(parent.run_id, "logistic", "training1")
    fold_run = tracker.start_fold_run(model_run, "logistic", "fold-0", "training1")
    other = tracker.start_experiment_run(config, "key2")
    other_model_run = tracker.start_model_run(other.run_id, "logistic", "training2")
    tracker.fail(parent.run_id, "out of memory")
    assert get_statuses(config) == {
        parent.run_id: "FAILED",
        model_run: "KILLED",
        fold_run: "KILLED",
        other.run_id: "RUNNING",
        other_model_run: "RUNNING",
    }


@pytest.mark.parametrize("killed", [None, False, True])
def test_an_unfinished_experiment_is_resumed(tracker, config, killed):
    parent = tracker.start_experiment_run(config, "key1")
    if killed is not None:
        tracker.fail(parent.run_id, "out of memory", killed=killed)
    again = tracker.start_experiment_run(config, "key1")
    assert (again.run_id, again.finished) == (parent.run_id, False)
    assert get_experiment_run(config).info.status == "RUNNING"


def test_a_partly_recorded_trial_is_completed(tracker, config):
    parent = tracker.start_experiment_run(config, "key1")
    model_run = tracker.start_model_run(parent.run_id, "logistic", "training1")
    # the state after a kill between the first and the second call
    tags = {"mlflow.parentRunId": model_run, "flowsheet.trial": "0"}
    tracker._create_run(parent.experiment_id, "trial", "trial 0", tags)
    tracker.sync_trials(model_run, "auprc", TRIALS)
    trials = search_runs(config, mlflow__parentRunId=model_run)
    assert sorted(run.data.tags["flowsheet.trial"] for run in trials) == ["0", "1", "2", "3"]
    assert all(run.data.params["model.hidden"] == "8" for run in trials)


def test_more_values_than_one_request_allows_are_recorded(tracker, config):
    parent = tracker.start_experiment_run(config, "key1")
    tracker.log(
        parent.run_id,
        params={f"p{i}": "x" * 6000 for i in range(250)},
        metrics={f"m{i}": i for i in range(250)},
        curves={"c": dict.fromkeys(range(1500), 0.5)},
    )
    run = get_experiment_run(config)
    assert len(run.data.metrics) == 251
    assert len(run.data.params) > 250


def test_an_event_run_is_finished_and_found_by_its_experiment(tracker, config):
    run_id = tracker.add_event_run(config.name, "deployed", {"flowsheet.key": "abc"})
    assert get_statuses(config) == {run_id: "FINISHED"}
    (tags,) = tracker.list_event_tags(config.name)
    assert tags["flowsheet.key"] == "abc"
    assert tracker.list_event_tags("unknown experiment") == []


def test_a_deleted_experiment_is_restored(tracker, config):
    tracker.start_experiment_run(config, "key1")
    connect().delete_experiment(connect().get_experiment_by_name(config.name).experiment_id)
    assert not tracker.start_experiment_run(config, "key2").finished


def test_an_experiment_that_another_machine_creates_meanwhile_is_used(tracker, config, monkeypatch):
    client = tracker._client._client
    create = client.create_experiment

    def create_twice(*args, **kwargs):
        create(*args, **kwargs)
        return create(*args, **kwargs)

    monkeypatch.setattr(client, "create_experiment", create_twice)
    first = tracker.start_experiment_run(config, "k" * 64)
    assert tracker.start_experiment_run(config, "k" * 64) == first


WRITER = """
import sys
from flowsheet.tracking.runs import Tracker
tracker, run = Tracker.open(), sys.argv[1]
for i in range(15):
    tracker.start_model_run(run, f"m{sys.argv[2]}_{i}", "key", {"a": i})
"""


def test_several_processes_write_to_one_file(tracker, config):
    parent = tracker.start_experiment_run(config, "key1")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, parent.run_id, str(n)]) for n in range(2)
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    assert len(search_runs(config, flowsheet__level="model")) == 30


def test_a_long_description_ends_with_where_the_rest_is(tracker, config):
    parent, _ = record_experiment(tracker, config)
    lines = "\n".join(f"| line {i} |" for i in range(2000))
    tracker.set_description(parent.run_id, lines)
    text = get_experiment_run(config).data.tags["mlflow.note.content"]
    assert len(text) <= 8000
    assert text.endswith("|\n\nThe rest is in the report, among the artifacts.")
