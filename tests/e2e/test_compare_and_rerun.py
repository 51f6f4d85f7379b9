"""Finished runs are compared with each other, and run again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from flowsheet.state.json_files import read_json
from flowsheet.tracking.store import connect
from tests.documented_keys import check_documented
from tests.e2e.conftest import CommandResult, run_flowsheet

pytestmark = [pytest.mark.server]
QUICK = ["tuning=none", "evaluation.resamples=20", "compute=single"]
SAME_ROWS = ["demo", "cohort=simulated_small", *QUICK]
TwoRuns = tuple[Path, str, str]
"""A state folder, and the ids of two experiments on the same rows."""


def run_experiment(home: Path, *arguments: str) -> str:
    """Run an experiment; returns the id of its MLflow run."""
    result = run_flowsheet(home, "run", *arguments)
    assert result.returncode == 0, result.stderr
    return re.search(r"^run (\w{32})$", result.stdout, re.M)[1]  # type: ignore[index]


def model_stages(home: Path) -> list[str]:
    return sorted(folder.name for folder in (home / "store" / "model").iterdir())


def list_experiment_runs(home: Path) -> list[str]:
    """Ids of the MLflow runs of whole experiments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        client = connect()
        experiments = [e.experiment_id for e in client.search_experiments()]
        runs = client.search_runs(experiments, "tags.flowsheet.level = 'experiment'")
    return [run.info.run_id for run in runs]


@pytest.fixture(scope="module")
def two_runs(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> TwoRuns:
    """The finished experiment, and one with a stronger penalty."""
    home = Path(shutil.copytree(finished, tmp_path_factory.mktemp("two_runs") / "home"))
    (first,) = list_experiment_runs(home)
    stronger = "models.logistic_regression.params.l2=50.0"
    second = run_experiment(home, *SAME_ROWS, "models=[logistic_regression]", stronger)
    return home, first, second


def test_the_checklist_of_a_run_is_printed(
    two_runs: TwoRuns, call_flowsheet: Callable[..., CommandResult]
):
    home, first, _ = two_runs
    result = call_flowsheet(home, "checklist", first[:8])
    assert result.returncode == 0, result.stderr
    assert "### 27c." in result.stdout
    assert "| with an evaluated prediction |" in result.stdout


def test_models_of_two_runs_are_compared_on_the_same_rows(
    two_runs: TwoRuns, call_flowsheet: Callable[..., CommandResult]
):
    home, first, second = two_runs
    result = call_flowsheet(home, "compare", first, second[:8])
    assert result.returncode == 0, result.stderr
    assert f"Logistic regression ({first[:8]})" in result.stdout
    assert f"Logistic regression ({second[:8]})" in result.stdout
    assert "LSTM" in result.stdout
    report = Path(re.search(r"^report (.*)$", result.stdout, re.M)[1])  # type: ignore[index]
    assert report.is_file()


def test_the_comparison_reports_the_metrics_of_the_experiments(
    two_runs: TwoRuns, call_flowsheet: Callable[..., CommandResult]
):
    home, first, second = two_runs
    result = call_flowsheet(home, "compare", first, second, "--json")
    assert result.returncode == 0, result.stderr
    check_documented("compare", json.loads(result.stdout))
    (comparison,) = (home / "store" / "comparison").iterdir()
    evidence_folders = list((home / "store" / "evidence").iterdir())
    (experiment,) = [
        folder
        for folder in evidence_folders
        if len(read_json(folder / "about.json")["models"]) == 2
    ]
    values = [
        pl.read_parquet(folder / "leaderboard.parquet")
        .filter(subset="all", metric="auroc", model="lstm")["value"]
        .item()
        for folder in (comparison, experiment)
    ]
    assert values[0] == values[1]


def test_registered_versions_are_compared(
    two_runs: TwoRuns, call_flowsheet: Callable[..., CommandResult]
):
    home, *_ = two_runs
    result = call_flowsheet(
        home, "compare", "demo-logistic_regression/1", "models:/demo-logistic_regression/2"
    )
    assert result.returncode == 0, result.stderr
    assert "Logistic regression (demo-logistic_regression/1)" in result.stdout


@pytest.mark.parametrize(
    "reference", ["nonsense", "ffffffffffffffff", "demo-lstm/9", "demo-lstm@champion"]
)
def test_an_unknown_reference_is_a_usage_error(
    two_runs: TwoRuns, reference: str, call_flowsheet: Callable[..., CommandResult]
):
    home, first, _ = two_runs
    for arguments in (["compare", first, reference], ["rerun", reference]):
        result = call_flowsheet(home, *arguments)
        assert result.returncode == 2
        assert reference in result.stderr
        assert "Traceback" not in result.stderr


def test_a_rerun_reproduces_every_metric_and_leaves_the_store_unchanged(
    two_runs: TwoRuns,
):
    home, _, second = two_runs
    before = model_stages(home)
    result = run_flowsheet(home, "rerun", second)
    assert result.returncode == 0, result.stderr
    counts = re.search(r"(\d+) of (\d+) metrics", result.stdout)
    assert counts
    assert counts[1] == counts[2] != "0"
    assert "fingerprint" not in result.stdout
    assert model_stages(home) == before
    assert not list((home / "reruns").iterdir())


@pytest.mark.slow
def test_a_rerun_names_the_fingerprints_that_changed(tmp_path: Path):
    home, ward = tmp_path / "home", tmp_path / "ward"
    arguments = ["simulate", str(ward), "--stays", "120", "--cohort", "simulated_small"]
    assert run_flowsheet(home, *arguments).returncode == 0
    records = ["cohort=extract", f"cohort.path={ward}", "models=[logistic_regression]"]
    run = run_experiment(home, "demo", *QUICK, *records)
    change_one_heart_rate(ward / "events.parquet")
    result = run_flowsheet(home, "rerun", run)
    assert result.returncode in (0, 1)
    assert "fingerprint of extract" in result.stdout
    assert "fingerprint of records" in result.stdout
    assert "fingerprint of split" not in result.stdout


def change_one_heart_rate(events_file: Path) -> None:
    events = pl.read_parquet(events_file)
    row = events.with_row_index().filter(variable="hr")["index"][0]
    changed = pl.when(pl.int_range(pl.len()) == row).then(pl.col("value") + 40).otherwise("value")
    events.with_columns(value=changed).write_parquet(events_file)
