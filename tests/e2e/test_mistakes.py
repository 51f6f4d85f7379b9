"""What a user gets wrong is answered in words, with the right exit code, and never with a traceback."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.e2e.conftest import flowsheet


def told(home: Path, *arguments: str) -> tuple[int, str]:
    done = flowsheet(home, *arguments)
    assert "Traceback" not in done.stderr + done.stdout
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
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
def test_wrong_words_exit_with_2(tmp_path: Path, arguments: list[str], said: str):
    code, errors = told(tmp_path / "home", *arguments)
    assert code == 2
    assert said in errors


def test_an_unwritable_home_exits_with_2(tmp_path: Path):
    (tmp_path / "file").write_text("")
    code, errors = told(tmp_path / "file" / "home", "run", "demo")
    assert code == 2
    assert "FLOWSHEET_HOME" in errors


def test_a_truncated_zip_exits_with_1_and_harms_nothing(tmp_path: Path):
    whole = tmp_path / "a.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("p000001.psv", "HR|SepsisLabel\n80|0\n" * 1000)
    (tmp_path / "cut.zip").write_bytes(whole.read_bytes()[:-60])
    code, errors = told(
        tmp_path / "home", "ingest", "physionet2019", f"cohort.path={tmp_path / 'cut.zip'}"
    )
    assert code == 1
    assert "cut.zip" in errors
    assert not list((tmp_path / "home").rglob("*.parquet"))


def test_simulate_validate_and_a_spoilt_value(tmp_path: Path):
    import polars as pl

    ward = tmp_path / "ward"
    assert told(tmp_path / "home", "simulate", str(ward), "--stays", "20")[0] == 0
    assert told(tmp_path / "home", "validate", str(ward))[0] == 0
    events = pl.read_parquet(ward / "events.parquet")
    events.with_columns(
        value=pl.when(pl.int_range(pl.len()) == 3).then(5000.0).otherwise("value")
    ).write_parquet(ward / "events.parquet")
    done = flowsheet(tmp_path / "home", "validate", str(ward))
    assert done.returncode == 1
    assert "plausible" in done.stdout
    assert "5000" in done.stdout


def test_help_does_not_import_what_is_heavy(tmp_path: Path):
    import subprocess
    import sys

    heavy = "'torch', 'mlflow', 'prefect', 'polars', 'optuna', 'pandera', 'sklearn'"
    script = f"import sys, flowsheet.cli; sys.exit(any(m in sys.modules for m in ({heavy})))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.server
def test_a_model_that_makes_no_sense_for_the_task_is_refused_with_the_reason(tmp_path: Path):
    wanted = ["cohort=simulated_small", "task=next_day_onset", "tuning=none"]
    code, errors = told(tmp_path / "home", "run", "demo", *wanted, "models=[ar1]")
    assert code == 1
    assert "before a first onset these are all 0" in errors
    done = flowsheet(tmp_path / "home", "run", "demo", *wanted, "models=[ar1,logistic_regression]")
    assert done.returncode == 0, done.stderr
    assert "ar1 was left out" in done.stdout
