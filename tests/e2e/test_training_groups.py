"""Groups of processes train the models of an experiment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import run_flowsheet
from tests.e2e.test_run import read_leaderboard

pytestmark = pytest.mark.slow
EXPERIMENT = [
    "demo",
    "cohort=simulated_small",
    "models=[gradient_boosting,lstm]",
    "models.gradient_boosting.params.rounds=20",
    "models.lstm.params.hidden=8",
    "models.lstm.params.epochs=3",
    "tuning.trials=1",
    "evaluation.resamples=50",
]
IN_TWO = "compute.processes_per_training=2"
"""It follows the choice of ``compute``, which would replace it."""
SECONDS = 1_800.0
"""In which an experiment ends, also on a busy machine."""


@pytest.mark.server
def test_groups_on_dask_and_here_give_the_same_figures(tmp_path: Path):
    """Both models want both workers at the same time."""
    pytest.importorskip("prefect_dask", reason="flowsheet[dask] is not installed")
    here = run_flowsheet(tmp_path / "here", "run", *EXPERIMENT, IN_TWO, seconds=SECONDS)
    assert here.returncode == 0, here.stderr
    choices = ["compute=dask", IN_TWO]
    on_dask = run_flowsheet(tmp_path / "dask", "run", *EXPERIMENT, *choices, seconds=SECONDS)
    assert on_dask.returncode == 0, on_dask.stderr
    assert "2 processes train it together" in on_dask.stderr
    assert read_leaderboard(tmp_path / "here").equals(read_leaderboard(tmp_path / "dask"))


def test_a_cluster_with_too_few_workers_is_refused_before_the_run_begins(tmp_path: Path):
    pytest.importorskip("prefect_dask", reason="flowsheet[dask] is not installed")
    choices = ["compute=dask", "compute.workers=1", IN_TWO]
    result = run_flowsheet(tmp_path, "run", *EXPERIMENT, *choices)
    assert result.returncode == 2, result.stderr
    assert "the Dask cluster has 1 workers" in result.stderr
    assert "[ingest]" not in result.stderr
