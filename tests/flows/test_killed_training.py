"""Trainings whose process was killed start again once, with fewer processes."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from uuid import uuid4

import pytest

from flows import experiment
from flows.experiment import _run_trainings, _Training
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

    def submit(self, fold, model, run_id, return_state):
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
def restarts(monkeypatch):
    """Numbers of restarts; nothing is in the store, and no server is called."""
    calls = []
    monkeypatch.setattr(experiment, "_restart_workers", calls.append)
    monkeypatch.setattr(experiment, "mark_tasks_crashed", lambda task_run_ids, reason: None)
    monkeypatch.setattr(_Training, "is_finished", lambda self: False)
    return calls


def run(monkeypatch, outcomes) -> tuple[list[Stage | CheckFailed], list[str]]:
    task = FakeTask(outcomes)
    monkeypatch.setattr(experiment, "_training_task", lambda compute: task)
    stages = {kind: make_stage(kind) for kind in ("extract", "windows", "split")}
    fold = FoldSpec(config=compose("demo", []), data=FoldData(**stages))
    return _run_trainings([_Training(fold, model, "run") for model in MODELS]), task.submitted


def test_only_the_trainings_that_have_not_ended_start_again(monkeypatch, restarts):
    stage, killed = make_stage("lstm"), BrokenProcessPool("terminated abruptly")
    inapplicable = CheckFailed("ar does not apply")
    outcomes = {"lstm": [killed, stage], "ar": [inapplicable], "gru": [killed, stage]}
    results, submitted = run(monkeypatch, outcomes)
    assert results == [stage, inapplicable, stage]
    assert submitted == [*MODELS, "lstm", "gru"]
    assert len(restarts) == 1


def test_a_second_kill_is_an_error_that_says_what_to_do(monkeypatch, restarts):
    killed = BrokenProcessPool("terminated abruptly")
    outcomes = {"lstm": [make_stage("lstm")], "ar": [make_stage("ar")], "gru": [killed, killed]}
    with pytest.raises(FlowsheetError, match="killed again") as caught:
        run(monkeypatch, outcomes)
    assert caught.value.where == "one of gru"
    assert "compute.workers=1" in caught.value.todo
    assert len(restarts) == 1
