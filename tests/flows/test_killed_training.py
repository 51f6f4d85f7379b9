"""Trainings whose process was killed start again once, one at a time."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from uuid import uuid4

import pytest

from flows import trainings
from flows.trainings import Training, _run_trainings
from flowsheet.compose import compose
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.lifecycle.experiment.folds import FoldSpec
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.experiment.train import FoldData

MODELS = ("lstm", "ar", "gru")


def make_stage(key: str) -> Stage:
    return Stage(kind="model", key=key, path="nowhere", reused=False, seconds=1.0)


class FakeTask:
    """A task whose outcomes are given: {model: [outcome of the first attempt, ...]}."""

    def __init__(self, outcomes) -> None:
        self.outcomes = outcomes
        self.submitted = []

    def submit(self, fold, model, run_id, return_state, wait_for):
        self.submitted.append(model)
        future = Future()
        future.task_run_id = uuid4()
        outcome = self.outcomes[model].pop(0)
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        return future


@pytest.fixture
def used_workers() -> list[int]:
    """Numbers of worker processes that are asked for."""
    return []


@pytest.fixture
def crashed() -> list[str]:
    """Why task runs were marked as crashed."""
    return []


@pytest.fixture
def restarts(monkeypatch, used_workers, crashed):
    """Numbers of restarts; nothing is in the store, and no server is called."""
    calls = []
    monkeypatch.setattr(trainings, "restart_workers", calls.append)
    monkeypatch.setattr(trainings, "use_workers", used_workers.append)
    monkeypatch.setattr(
        trainings, "mark_tasks_crashed", lambda ids, reason: crashed.extend([reason] * len(ids))
    )
    monkeypatch.setattr(trainings, "estimate_training_memory", lambda *_: 1)
    monkeypatch.setattr(Training, "is_finished", lambda self: False)
    return calls


@pytest.fixture(autouse=True)
def lines(monkeypatch) -> list[str]:
    """Lines of progress."""
    reported = []
    monkeypatch.setattr(trainings, "progress_logger", lambda name: reported.append)
    return reported


def run(monkeypatch, outcomes, workers=2) -> tuple[list[Stage | CheckFailed], list[str]]:
    task = FakeTask(outcomes)
    monkeypatch.setattr(trainings, "_training_task", lambda training: task)
    stages = {kind: make_stage(kind) for kind in ("extract", "windows", "split")}
    fold = FoldSpec(config=compose("demo", [f"compute.workers={workers}"]), data=FoldData(**stages))
    outcomes = _run_trainings([Training(fold, model, "run") for model in MODELS], [])
    return [outcome.result for outcome in outcomes], task.submitted


def test_only_the_trainings_that_have_not_ended_start_again(monkeypatch, restarts, crashed, lines):
    stage, killed = make_stage("lstm"), BrokenProcessPool("terminated abruptly")
    inapplicable = CheckFailed("ar does not apply")
    outcomes = {"lstm": [killed, stage], "ar": [inapplicable], "gru": [killed, stage]}
    results, submitted = run(monkeypatch, outcomes)
    assert results == [stage, inapplicable, stage]
    assert submitted == [*MODELS, "lstm", "gru"]
    assert restarts == [1]
    assert crashed == ["its process was killed"] * 2
    assert any("one training at a time" in line for line in lines)


def test_a_second_kill_is_an_error_that_says_what_to_do(monkeypatch, restarts):
    killed = BrokenProcessPool("terminated abruptly")
    outcomes = {"lstm": [make_stage("lstm")], "ar": [make_stage("ar")], "gru": [killed, killed]}
    with pytest.raises(FlowsheetError, match="killed again") as caught:
        run(monkeypatch, outcomes)
    assert caught.value.where == "one of gru"
    assert "a machine with more memory" in caught.value.todo
    assert restarts == [1]


def test_a_killed_worker_of_a_cluster_is_an_error_that_says_what_to_do(
    monkeypatch, restarts, crashed
):
    killed_worker = type("KilledWorker", (Exception,), {"__module__": "distributed.scheduler"})
    killed = killed_worker("Attempted to run task 'train' on 4 different workers")
    outcomes = {"lstm": [killed], "ar": [make_stage("ar")], "gru": [make_stage("gru")]}
    with pytest.raises(FlowsheetError, match="a worker of the cluster was killed") as caught:
        run(monkeypatch, outcomes)
    assert "4 different workers" in caught.value.where
    assert restarts == []
    assert crashed == ["its process was killed"]


def test_no_more_processes_than_memory_holds(monkeypatch, restarts, used_workers, lines):
    monkeypatch.setattr(trainings, "estimate_training_memory", lambda *_: 3_000_000_000)
    monkeypatch.setattr(trainings, "usable_memory", lambda: 7_000_000_000)
    stages = {model: [make_stage(model)] for model in MODELS}
    run(monkeypatch, stages, workers=4)
    assert used_workers == [2]
    warning = next(line for line in lines if line.startswith("warning"))
    assert "2 instead of compute.workers=4: a training needs about 3.0 GB" in warning
    assert "3 models to train, in 2 processes" in lines
    run(monkeypatch, {model: [make_stage(model)] for model in MODELS}, workers=1)
    assert used_workers == [2, 1]
    assert restarts == []
