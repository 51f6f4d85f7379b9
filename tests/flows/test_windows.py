"""Shards are built in worker processes where that pays; what a killed one leaves is built later."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from typing import Any
from uuid import uuid4

import pytest

from flows import pieces, windows
from flows.liveness import PROCESS_KILLED
from flowsheet.compose import compose
from flowsheet.config import ComputeConfig
from flowsheet.lifecycle.experiment.stage import Stage

CONFIG = compose("demo", [])
EXTRACT = Stage(kind="extract", key="e" * 64, path="e", reused=True, seconds=1.0)


class Future:
    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.task_run_id = uuid4()

    def result(self) -> None:
        if self.error:
            raise self.error


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch):
    """Build some shards; returns their stays as they were submitted, and new numbers of workers."""

    def call(shards: int, compute: ComputeConfig, error: Exception | None = None, memory: int = 1):
        submitted: list[Any] = []
        restarts: list[int] = []

        def submit(stays, **parameters: Any) -> Future:
            submitted.append(stays)
            return Future(error)

        monkeypatch.setattr(windows.build_shard, "submit", submit)
        monkeypatch.setattr(pieces, "restart_workers", restarts.append)
        monkeypatch.setattr(
            pieces, "mark_tasks_crashed", lambda runs, reason: print(f"{len(runs)}: {reason}")
        )
        monkeypatch.setattr(pieces, "use_workers", lambda workers: print(f"using {workers}"))
        monkeypatch.setattr(pieces, "progress_logger", lambda step: print)
        plan = [[(i, 1)] for i in range(shards)]
        monkeypatch.setattr(windows.prepare, "plan_shards", lambda *choices: plan)
        monkeypatch.setattr(windows.prepare, "estimate_shard_memory", lambda *_: memory)
        windows.build_shards(EXTRACT, CONFIG.task, CONFIG.features, compute, None)
        return submitted, restarts

    return call


def test_several_shards_are_built_by_several_workers(build):
    assert build(3, ComputeConfig(name="two", workers=2)) == ([[(0, 1)], [(1, 1)], [(2, 1)]], [])


@pytest.mark.parametrize(
    ("shards", "compute"),
    [
        (2, ComputeConfig(name="two", workers=2)),
        (9, ComputeConfig(name="one")),
        (9, ComputeConfig(name="pool", workers=2, pool="cpu")),
    ],
)
def test_few_shards_and_those_of_a_single_worker_are_built_with_the_windows(build, shards, compute):
    assert build(shards, compute) == ([], [])


def test_a_killed_process_leaves_its_shards_to_the_flow_run(build, capsys):
    _, restarts = build(4, ComputeConfig(name="two", workers=2), BrokenProcessPool())
    assert restarts == [2]
    printed = capsys.readouterr().out
    assert "what is left is built one at a time" in printed
    assert f"4: {PROCESS_KILLED}" in printed


@pytest.mark.parametrize(("memory", "workers"), [(2, 4), (3, 3), (20, 1)])
def test_no_more_processes_build_shards_than_the_machine_has_memory_for(
    build, monkeypatch, capsys, memory, workers
):
    monkeypatch.setattr(pieces, "usable_memory", lambda: 9)
    build(6, ComputeConfig(name="four", workers=4), memory=memory)
    printed = f"using {workers}\n6 shards to build, in {workers} processes\n"
    assert capsys.readouterr().out == printed
