"""Runs that exist already: compared with each other, and run again."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from flowsheet.state.json_files import read_json
from tests.e2e.conftest import flowsheet

pytestmark = [pytest.mark.server]
QUICK = ["demo", "cohort=extract", "tuning=none", "evaluation.resamples=20", "compute=single"]


def run(home: Path, *arguments: str) -> str:
    """Run an experiment; the id of its run."""
    done = flowsheet(home, "run", *QUICK, *arguments)
    assert done.returncode == 0, done.stderr
    return re.search(r"^run (\w{32})$", done.stdout, re.M)[1]  # type: ignore[index]


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records") / "ward"
    assert (
        flowsheet(folder.parent / "home", "simulate", str(folder), "--stays", "120").returncode == 0
    )
    return folder


@pytest.fixture(scope="module")
def runs(ward: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A state folder with two experiments on the same rows."""
    home = tmp_path_factory.mktemp("again")
    cohort = f"cohort.path={ward}"
    return (
        home,
        run(home, cohort, "models=[logistic_regression,naive_bayes]"),
        run(
            home,
            cohort,
            "models=[logistic_regression]",
            "models.logistic_regression.params.l2=50.0",
        ),
    )


def test_models_of_two_runs_are_compared_on_the_same_rows(runs: tuple[Path, str, str]):
    home, first, second = runs
    done = flowsheet(home, "compare", first, second[:8])
    assert done.returncode == 0, done.stderr
    assert f"logistic_regression ({first[:8]})" in done.stdout
    assert f"logistic_regression ({second[:8]})" in done.stdout
    assert "naive_bayes" in done.stdout
    report = Path(re.search(r"^report (.*)$", done.stdout, re.M)[1])  # type: ignore[index]
    assert report.is_file()
    (folder,) = (home / "store" / "comparison").iterdir()
    board = pl.read_parquet(folder / "leaderboard.parquet").filter(subset="all", metric="auroc")
    folders = (home / "store" / "evidence").iterdir()
    (of_first,) = [f for f in folders if len(read_json(f / "about.json")["models"]) == 2]
    own = pl.read_parquet(of_first / "leaderboard.parquet").filter(
        subset="all", metric="auroc", model="naive_bayes"
    )
    assert board.filter(model="naive_bayes")["value"].item() == own["value"].item()


def test_registered_versions_are_compared_too(runs: tuple[Path, str, str]):
    home, *_ = runs
    done = flowsheet(
        home, "compare", "demo-logistic_regression/1", "models:/demo-logistic_regression/2"
    )
    assert done.returncode == 0, done.stderr
    assert "logistic_regression (demo-logistic_regression/1)" in done.stdout


def test_other_rows_and_other_tasks_are_refused_with_the_difference(
    runs: tuple[Path, str, str], ward: Path
):
    home, first, _ = runs
    cohort, models = f"cohort.path={ward}", "models=[naive_bayes]"
    done = flowsheet(home, "compare", first, run(home, cohort, models, "seed=2"))
    assert done.returncode == 1
    assert "subjects only in the first" in done.stderr
    done = flowsheet(home, "compare", first, run(home, cohort, models, "task.horizon=2"))
    assert done.returncode == 1
    assert "task.horizon is 1 and 2" in done.stderr


@pytest.mark.parametrize(
    "reference", ["nonsense", "ffffffffffffffff", "demo-lstm/9", "demo-lstm@champion"]
)
def test_what_is_not_there_is_wrong_use(runs: tuple[Path, str, str], reference: str):
    home, first, _ = runs
    for words in (["compare", first, reference], ["rerun", reference]):
        done = flowsheet(home, *words)
        assert done.returncode == 2
        assert reference in done.stderr
        assert "Traceback" not in done.stderr


def test_a_rerun_gives_every_figure_again_and_leaves_the_store_alone(runs: tuple[Path, str, str]):
    home, first, _ = runs
    before = sorted(p.name for p in (home / "store" / "model").iterdir())
    done = flowsheet(home, "rerun", first)
    assert done.returncode == 0, done.stderr
    counted = re.search(r"(\d+) of (\d+) figures", done.stdout)
    assert counted
    assert counted[1] == counted[2] != "0"
    assert "fingerprint" not in done.stdout
    assert sorted(p.name for p in (home / "store" / "model").iterdir()) == before
    assert not list((home / "reruns").iterdir())


def test_a_rerun_says_which_fingerprints_a_changed_value_changed(ward: Path, tmp_path: Path):
    records = tmp_path / "ward"
    shutil.copytree(ward, records)
    first = run(tmp_path / "home", f"cohort.path={records}", "models=[logistic_regression]")
    events = pl.read_parquet(records / "events.parquet")
    row = events.with_row_index().filter(variable="hr")["index"][0]
    changed = pl.when(pl.int_range(pl.len()) == row).then(pl.col("value") + 40).otherwise("value")
    events.with_columns(value=changed).write_parquet(records / "events.parquet")
    done = flowsheet(tmp_path / "home", "rerun", first)
    assert done.returncode in (0, 1)
    assert "fingerprint of extract" in done.stdout
    assert "fingerprint of records" in done.stdout
    assert "fingerprint of split" not in done.stdout
