"""Two experiments at once: each comes to the very figures that it comes to alone."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.conftest import SMALL, command, flowsheet
from tests.e2e.stack import Stack, await_, kill_tree, running
from tests.e2e.test_run import level, tracked, versions

pytestmark = [pytest.mark.server]
ANOTHER = [*SMALL, "seed=2", "models.lstm.params.hidden=6"]


@pytest.fixture(scope="module")
def alone(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> list[pl.DataFrame]:
    """The leaderboards of two experiments that had a state folder each."""
    home = tmp_path_factory.mktemp("alone")
    done = flowsheet(home, "run", *ANOTHER)
    assert done.returncode == 0, done.stderr
    return [*boards(finished), *boards(home)]


def boards(home: Path) -> list[pl.DataFrame]:
    return [
        pl.read_parquet(folder / "leaderboard.parquet")
        for folder in (home / "store" / "evidence").iterdir()
    ]


def same(some: list[pl.DataFrame], others: list[pl.DataFrame]) -> bool:
    return len(some) == len(others) and all(
        any(one.equals(other) for other in others) for one in some
    )


def finish(*runs: tuple[list[str], dict[str, str]], log: Path) -> None:
    """Start all at the same time, and see them end well."""
    with log.open("ab") as said:
        started = [subprocess.Popen(line, env=env, stdout=said, stderr=said) for line, env in runs]
    try:
        assert [each.wait(timeout=900) for each in started] == [0] * len(started), log.read_text()
    finally:
        for each in started:
            each.kill()
            each.wait()


def test_in_one_folder(alone: list[pl.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "together"
    finish(*(command(home, "run", *words) for words in (SMALL, ANOTHER)), log=tmp_path / "log")
    assert not alone[0].equals(alone[1])
    assert same(boards(home), alone)
    runs = tracked(home, monkeypatch)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert [len(level(runs, name)) for name in ("experiment", "model", "trial")] == [2, 4, 10]
    names = ("demo-logistic_regression", "demo-lstm")
    assert versions(home, monkeypatch) == [
        (name, version) for name in names for version in ("1", "2")
    ]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack"), workers=0, on_postgres=False) as found:
        yield found


@contextlib.contextmanager
def one_worker(stack: Stack, limit: int) -> Iterator[None]:
    worker = stack.worker(limit)
    try:
        yield
    finally:
        kill_tree(worker)


@pytest.mark.slow
def test_on_one_worker_of_a_pool(alone: list[pl.DataFrame], stack: Stack):
    pool = ["compute=cpu_pool", "compute.workers=1"]
    line = [sys.executable, "-m", "flowsheet", "run"]
    with one_worker(stack, limit=4):
        finish(
            *(([*line, *words, *pool], stack.env) for words in (SMALL, ANOTHER)),
            log=stack.folder / "log",
        )
    assert same(boards(stack.folder / "home"), alone)
    assert Counter(stack.states("train")) == {"COMPLETED": 4}


@pytest.mark.slow
def test_a_retraining_that_keeps_the_only_place_of_its_pool_says_so(stack: Stack):
    impatient = [
        *SMALL[1:],
        "seed=3",
        "compute=cpu_pool",
        "compute.workers=1",
        "compute.pickup_minutes=0.25",
    ]
    with one_worker(stack, limit=1):
        run = stack.run("retrain/weekly", overrides=impatient)
        assert stack.ended(run) == "Failed"
        message = stack.state(run)["message"]
        assert "no worker of the pool cpu has picked up the training" in message
        assert "--limit 2" in message
        await_(lambda: not {"SCHEDULED", "PENDING", "RUNNING"} & set(stack.states("train")), 60)
