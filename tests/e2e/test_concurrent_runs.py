"""Two experiments at the same time give the results that they give one after the other."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.conftest import SMALL, flowsheet_command, run_flowsheet
from tests.e2e.stack import Stack, kill_tree, running_stack, wait_until
from tests.e2e.test_run import count_levels, list_mlflow_runs, list_versions

pytestmark = [pytest.mark.server]
OTHER = [*SMALL, "seed=2", "models.lstm.params.hidden=6"]


@pytest.fixture(scope="module")
def expected(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> list[pl.DataFrame]:
    """The leaderboards of both experiments, one run after the other in one state folder."""
    home = tmp_path_factory.mktemp("alone") / "home"
    shutil.copytree(finished, home)
    result = run_flowsheet(home, "run", *OTHER, "compute=single")  # changes no result
    assert result.returncode == 0, result.stderr
    leaderboards = read_leaderboards(home)
    assert len(leaderboards) == 2
    assert not leaderboards[0].equals(leaderboards[1])
    return leaderboards


def read_leaderboards(home: Path) -> list[pl.DataFrame]:
    folders = (home / "store" / "evidence").iterdir()
    return [pl.read_parquet(folder / "leaderboard.parquet") for folder in folders]


def equal_in_any_order(actual: list[pl.DataFrame], expected: list[pl.DataFrame]) -> bool:
    def is_expected(leaderboard: pl.DataFrame) -> bool:
        return any(leaderboard.equals(other) for other in expected)

    return len(actual) == len(expected) and all(map(is_expected, actual))


def run_at_the_same_time(
    commands: Sequence[list[str]], environment: dict[str, str], log: Path
) -> None:
    """Start all commands and check that they succeed."""
    with log.open("ab") as output:
        processes = [
            subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            for command in commands
        ]
    try:
        exit_codes = [process.wait(timeout=900) for process in processes]
        assert exit_codes == [0] * len(processes), log.read_text(encoding="utf-8")
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_in_one_state_folder(
    expected: list[pl.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    home = tmp_path / "together"
    first, environment = flowsheet_command(home, "run", *SMALL)
    second, _ = flowsheet_command(home, "run", *OTHER)
    run_at_the_same_time([first, second], environment, tmp_path / "log")
    assert equal_in_any_order(read_leaderboards(home), expected)
    runs = list_mlflow_runs(home, monkeypatch)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert count_levels(runs) == {"experiment": 2, "model": 4, "trial": 10}
    assert list_versions(home, monkeypatch) == [
        ("demo-logistic_regression", "1"),
        ("demo-logistic_regression", "2"),
        ("demo-lstm", "1"),
        ("demo-lstm", "2"),
    ]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    with running_stack(folder, workers=0, on_postgres=False) as servers:
        yield servers


@contextlib.contextmanager
def one_worker(stack: Stack, limit: int) -> Iterator[None]:
    worker = stack.start_worker(limit)
    try:
        yield
    finally:
        kill_tree(worker)


@pytest.mark.slow
def test_on_one_worker_of_a_pool(expected: list[pl.DataFrame], stack: Stack):
    pool = ["compute=cpu_pool", "compute.workers=1"]
    run = [sys.executable, "-m", "flowsheet", "run"]
    commands = [[*run, *SMALL, *pool], [*run, *OTHER, *pool]]
    with one_worker(stack, limit=4):
        run_at_the_same_time(commands, stack.environment, stack.folder / "log")
    assert equal_in_any_order(read_leaderboards(stack.folder / "home"), expected)
    assert Counter(stack.list_states("train")) == {"COMPLETED": 4}


@pytest.mark.slow
def test_a_retraining_that_occupies_the_only_slot_of_its_pool_is_explained(stack: Stack):
    overrides = [
        *SMALL[1:],
        "seed=3",
        "compute=cpu_pool",
        "compute.workers=1",
        "compute.pickup_minutes=0.25",
    ]
    with one_worker(stack, limit=1):
        run_id = stack.run_deployment("retrain/weekly", overrides=overrides)
        assert stack.wait_for_end(run_id) == "Failed"
        message = stack.get_state(run_id)["message"]
        assert "no worker of the pool cpu has picked up the training" in message
        assert "--limit 2" in message
        unfinished = {"SCHEDULED", "PENDING", "RUNNING"}
        wait_until(lambda: not unfinished & set(stack.list_states("train")), 60)
