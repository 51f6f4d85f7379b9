"""Pieces whose process is killed are left to the step, and Prefect's page says that it was."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from uuid import UUID, uuid4

import pytest

from flows import pieces
from flows.liveness import PROCESS_KILLED
from flows.pieces import Pieces, build_pieces
from flowsheet.config import ComputeConfig

KILLED = BrokenProcessPool("terminated abruptly")


class FakeTask:
    """A task with these outcomes: None, or the error of a piece."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.ids: list[UUID] = []

    def submit(self, number, return_state, wait_for):
        future = Future()
        future.task_run_id = uuid4()
        self.ids.append(future.task_run_id)
        if error := self.outcomes[number]:
            future.set_exception(error)
        else:
            future.set_result(number)
        return future


@pytest.fixture
def build(monkeypatch):
    """Build the pieces of a task; returns restarts, and the task runs that are marked."""
    monkeypatch.setattr(pieces, "progress_logger", lambda name: lambda line: None)
    monkeypatch.setattr(pieces, "declare_needs", lambda *_: nullcontext())
    monkeypatch.setattr(pieces, "use_workers", lambda workers: None)

    def call(task, runner="process"):
        restarts, marked = [], []
        monkeypatch.setattr(pieces, "restart_workers", restarts.append)
        monkeypatch.setattr(pieces, "mark_tasks_crashed", lambda *call: marked.append(call))
        numbers = [{"number": number} for number in range(len(task.outcomes))]
        compute = ComputeConfig(name="two", workers=2, runner=runner)
        build_pieces(Pieces(task, numbers, memory=1, step="test", name="pieces"), compute)
        return restarts, marked

    return call


def test_the_tasks_of_killed_processes_are_marked_and_the_others_waited_for(build):
    task = FakeTask(None, KILLED, None, KILLED)
    restarts, marked = build(task)
    assert restarts == [2]
    assert marked == [([task.ids[1], task.ids[3]], PROCESS_KILLED)]
    assert build(FakeTask(None, KILLED), runner="dask")[0] == []


def test_nothing_is_marked_where_no_process_was_killed(build):
    assert build(FakeTask(None, None)) == ([], [])
    with pytest.raises(ValueError, match="of a piece"):
        build(FakeTask(None, ValueError("of a piece")))
