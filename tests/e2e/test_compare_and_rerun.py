"""Finished runs are compared with each other, and run again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from flowsheet.state.json_files import read_json
from tests.documented_keys import check_documented
from tests.e2e.conftest import CommandResult, run_flowsheet
from tests.prefect_database import copy_database

pytestmark = [pytest.mark.server]
QUICK = ["demo", "cohort=extract", "tuning=none", "evaluation.resamples=20", "compute=single"]


def run_experiment(home: Path, *overrides: str) -> str:
    """Run an experiment; returns the id of its MLflow run."""
    result = run_flowsheet(home, "run", *QUICK, *overrides)
    assert result.returncode == 0, result.stderr
    return re.search(r"^run (\w{32})$", result.stdout, re.M)[1]  # type: ignore[index]


def model_stages(home: Path) -> list[str]:
    return sorted(folder.name for folder in (home / "store" / "model").iterdir())


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An extract of a simulated ward."""
    folder = tmp_path_factory.mktemp("records") / "ward"
    arguments = ["simulate", str(folder), "--stays", "120", "--cohort", "simulated_small"]
    result = run_flowsheet(folder.parent / "home", *arguments)
    assert result.returncode == 0
    return folder


@pytest.fixture(scope="module")
def two_runs(
    ward: Path, prefect_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str, str]:
    """A state folder, and the ids of two experiments on the same rows."""
    home = tmp_path_factory.mktemp("two_runs")
    copy_database(prefect_database, home)
    cohort = f"cohort.path={ward}"
    first = run_experiment(home, cohort, "models=[logistic_regression,naive_bayes]")
    stronger_penalty = "models.logistic_regression.params.l2=50.0"
    second = run_experiment(home, cohort, "models=[logistic_regression]", stronger_penalty)
    return home, first, second


def test_the_checklist_of_a_run_is_printed(
    two_runs: tuple[Path, str, str], call_flowsheet: Callable[..., CommandResult]
):
    home, first, _ = two_runs
    result = call_flowsheet(home, "checklist", first[:8])
    assert result.returncode == 0, result.stderr
    assert "### 27c." in result.stdout
    assert "| with an evaluated prediction |" in result.stdout


def test_models_of_two_runs_are_compared_on_the_same_rows(
    two_runs: tuple[Path, str, str], call_flowsheet: Callable[..., CommandResult]
):
    home, first, second = two_runs
    result = call_flowsheet(home, "compare", first, second[:8])
    assert result.returncode == 0, result.stderr
    assert f"Logistic regression ({first[:8]})" in result.stdout
    assert f"Logistic regression ({second[:8]})" in result.stdout
    assert "Naive Bayes" in result.stdout
    report = Path(re.search(r"^report (.*)$", result.stdout, re.M)[1])  # type: ignore[index]
    assert report.is_file()


def test_the_comparison_reports_the_metrics_of_the_experiments(
    two_runs: tuple[Path, str, str], call_flowsheet: Callable[..., CommandResult]
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
        .filter(subset="all", metric="auroc", model="naive_bayes")["value"]
        .item()
        for folder in (comparison, experiment)
    ]
    assert values[0] == values[1]


def test_registered_versions_are_compared(
    two_runs: tuple[Path, str, str], call_flowsheet: Callable[..., CommandResult]
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
    two_runs: tuple[Path, str, str], reference: str, call_flowsheet: Callable[..., CommandResult]
):
    home, first, _ = two_runs
    for arguments in (["compare", first, reference], ["rerun", reference]):
        result = call_flowsheet(home, *arguments)
        assert result.returncode == 2
        assert reference in result.stderr
        assert "Traceback" not in result.stderr


def test_a_rerun_reproduces_every_metric_and_leaves_the_store_unchanged(
    two_runs: tuple[Path, str, str],
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
def test_a_rerun_names_the_fingerprints_that_changed(two_runs: tuple[Path, str, str], ward: Path):
    home, _, second = two_runs
    events = ward / "events.parquet"
    unchanged = events.read_bytes()
    try:
        change_one_heart_rate(events)
        result = run_flowsheet(home, "rerun", second)
    finally:
        events.write_bytes(unchanged)
    assert result.returncode in (0, 1)
    assert "fingerprint of extract" in result.stdout
    assert "fingerprint of records" in result.stdout
    assert "fingerprint of split" not in result.stdout


def change_one_heart_rate(events_file: Path) -> None:
    events = pl.read_parquet(events_file)
    row = events.with_row_index().filter(variable="hr")["index"][0]
    changed = pl.when(pl.int_range(pl.len()) == row).then(pl.col("value") + 40).otherwise("value")
    events.with_columns(value=changed).write_parquet(events_file)
