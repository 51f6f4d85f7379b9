"""Groups of processes train the models of an experiment, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import flowsheet_command, run_flowsheet
from tests.e2e.stack import wait_until
from tests.e2e.test_run import read_leaderboard

pytestmark = pytest.mark.slow
GROUPS = [
    "demo",
    "cohort=simulated_small",
    "models=[gradient_boosting,lstm]",
    "models.gradient_boosting.params.rounds=20",
    "models.lstm.params.hidden=8",
    "models.lstm.params.epochs=3",
    "tuning.trials=1",
    "evaluation.resamples=50",
    "compute.processes_per_training=2",
]


@pytest.mark.server
def test_groups_on_dask_and_here_give_the_same_figures(tmp_path: Path):
    """Both models want both workers at the same time."""
    pytest.importorskip("prefect_dask", reason="flowsheet[dask] is not installed")
    here = run_flowsheet(tmp_path / "here", "run", *GROUPS)
    assert here.returncode == 0, here.stderr
    on_dask = run_flowsheet(tmp_path / "dask", "run", *GROUPS, "compute=dask")
    assert on_dask.returncode == 0, on_dask.stderr
    assert "2 processes train it together" in on_dask.stderr
    assert read_leaderboard(tmp_path / "here").equals(read_leaderboard(tmp_path / "dask"))


def test_a_cluster_with_too_few_workers_is_refused_before_the_run_begins(tmp_path: Path):
    pytest.importorskip("prefect_dask", reason="flowsheet[dask] is not installed")
    choices = ["compute=dask", "compute.workers=1", "compute.processes_per_training=2"]
    result = run_flowsheet(tmp_path, "run", *GROUPS, *choices)
    assert result.returncode == 2, result.stderr
    assert "the Dask cluster has 1 workers" in result.stderr
    assert "[ingest]" not in result.stderr


def list_members() -> list[int]:
    """The processes of groups of all runs."""
    members = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text(encoding="utf-8")
        except OSError:  # it has ended
            continue
        if "group_member" in command:
            members.append(int(folder.name))
    return members


def test_members_end_with_a_run_that_is_killed(tmp_path: Path):
    before = set(list_members())
    long = ["models.lstm.params.epochs=1000", "models.lstm.params.patience=1000"]
    command, environment = flowsheet_command(tmp_path, "run", *GROUPS, *long)
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until(lambda: len(set(list_members()) - before) >= 2 or process.poll() is not None)
        members = set(list_members()) - before
        assert len(members) >= 2
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 60
    while members & set(list_members()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not members & set(list_members())
