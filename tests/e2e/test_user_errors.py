"""Users' errors are explained, with the right exit code and without a traceback."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.conftest import CommandResult, run_flowsheet


def run_without_traceback(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    result = run_flowsheet(home, *arguments)
    assert "Traceback" not in result.stderr + result.stdout
    return result


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rn", "demo"], 'did you mean "run"'),
        (["run", "demoo"], 'did you mean "demo"'),
        (["run", "demo", "tuning.trails=3", "--dry-run"], 'did you mean "trials"'),
        (["run", "demo", "models.lstm.params.hiden=3", "--dry-run"], 'did you mean "hidden"'),
        (["run", "demo", "cohort.options.stay=3", "--dry-run"], 'did you mean "stays"'),
        (["run", "demo", "tuning.metric=aurok", "--dry-run"], 'did you mean "auroc"'),
        (["ls", "modles"], 'did you mean "models"'),
        (["ingest", "physionet2019"], "cohort.path"),
        (["ingest", "physionet2019", "cohort.path=nowhere"], "do not exist"),
    ],
)
def test_unknown_names_exit_with_2(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    call_flowsheet: Callable[..., CommandResult],
):
    result = call_flowsheet(tmp_path / "home", *arguments)
    assert "Traceback" not in result.stderr + result.stdout
    assert result.returncode == 2
    assert message in result.stderr


def test_an_unwritable_state_folder_exits_with_2(tmp_path: Path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = run_without_traceback(tmp_path / "file" / "home", "run", "demo")
    assert result.returncode == 2
    assert "FLOWSHEET_HOME" in result.stderr


def test_a_truncated_zip_exits_with_1_and_leaves_no_extract(tmp_path: Path):
    complete = tmp_path / "complete.zip"
    with zipfile.ZipFile(complete, "w") as archive:
        archive.writestr("p000001.psv", "HR|SepsisLabel\n80|0\n" * 1000)
    truncated = tmp_path / "truncated.zip"
    truncated.write_bytes(complete.read_bytes()[:-60])
    home = tmp_path / "home"
    result = run_without_traceback(home, "ingest", "physionet2019", f"cohort.path={truncated}")
    assert result.returncode == 1
    assert "truncated.zip" in result.stderr
    assert not list(home.rglob("*.parquet"))


def test_validation_reports_an_implausible_value(tmp_path: Path):
    ward = tmp_path / "ward"
    home = tmp_path / "home"
    assert run_without_traceback(home, "simulate", str(ward), "--stays", "20").returncode == 0
    assert run_without_traceback(home, "validate", str(ward)).returncode == 0
    events = pl.read_parquet(ward / "events.parquet")
    implausible = pl.when(pl.int_range(pl.len()) == 3).then(5000.0).otherwise("value")
    events.with_columns(value=implausible).write_parquet(ward / "events.parquet")
    result = run_flowsheet(home, "validate", str(ward))
    assert result.returncode == 1
    assert "plausible" in result.stdout
    assert "5000" in result.stdout


def test_the_command_line_does_not_import_heavy_libraries():
    heavy = "'torch', 'mlflow', 'prefect', 'polars', 'optuna', 'pandera', 'sklearn'"
    script = f"import sys, flowsheet.cli; sys.exit(any(m in sys.modules for m in ({heavy})))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.server
def test_a_model_that_does_not_apply_to_the_task_is_excluded_with_the_reason(tmp_path: Path):
    home = tmp_path / "home"
    first_onset = ["cohort=simulated_small", "task=next_day_onset", "tuning=none"]
    result = run_without_traceback(home, "run", "demo", *first_onset, "models=[ar1]")
    assert result.returncode == 1
    assert "before a first onset these are all 0" in result.stderr
    both = "models=[ar1,logistic_regression]"
    result = run_without_traceback(home, "run", "demo", *first_onset, both)
    assert result.returncode == 0, result.stderr
    assert "AR(1) was left out" in result.stdout
