"""Registered versions that score the rows held out of today's records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.deployment.candidates import load_candidate
from flowsheet.lifecycle.deployment.compare_models import ModelComparison, compare_runs
from flowsheet.lifecycle.experiment.predictions import Predictions
from flowsheet.state.store import Store
from flowsheet.tracking import model_registry
from flowsheet.tracking.registered_packages import load_package
from tests.lifecycle.deployment.growing_ward import Ward, configure, run

pytestmark = pytest.mark.slow  # test_retraining has the quick cases
WARD = Ward(150, lactate_since=100)
FIRST, SECOND, OTHER_SPLIT = "today-logistic/1", "today-logistic/2", "today-logistic/3"


@dataclass(frozen=True)
class Trained:
    """The records, and the runs that trained on them when they were fewer."""

    records: Path
    runs: tuple[str, str]


@pytest.fixture(scope="module")
def _trained(tmp_path_factory) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("today")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(folder / "home"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        config = configure("today", WARD.write(folder / "ward"))
        first = run(config)
        replace(WARD, stays=200).write(folder / "ward")
        second = run(config)
        yield Trained(folder / "ward", (first.run_id, second.run_id))


@pytest.fixture
def trained(_trained, monkeypatch) -> Trained:
    monkeypatch.setenv("FLOWSHEET_HOME", str(_trained.records.parent / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return _trained


def read_predictions(comparison: ModelComparison) -> Predictions:
    """The predictions that a comparison was computed from."""
    stage = Store.open().path("comparison", comparison.report.parent.name)
    return Predictions.load(stage)


def find_seen(*references: str) -> set[int]:
    """The subjects in today's records on whom a version was developed."""
    stays = pl.read_parquet(newest_extract() / "stays.parquet")
    seen: set[int] = set()
    for reference in references:
        package = load_package(model_registry.resolve_reference(reference))
        assert package.development
        seen.update(package.development.subjects.find_seen(stays).seen.tolist())
    return seen


def newest_extract() -> Path:
    extracts = (Store.open().root / "extract").iterdir()
    return max(extracts, key=lambda stage: stage.stat().st_mtime) / "extract"


def test_both_models_score_the_rows_that_the_later_one_was_tested_on(trained, tmp_path):
    today = compare_runs([FIRST, SECOND], on="today")
    recorded = load_candidate(SECOND, tmp_path / "second").predictions
    scored = read_predictions(today)
    is_scored = pl.col("subject_id").is_in(scored.rows["subject_id"].to_list())
    assert scored.rows.height > 0.9 * recorded.rows.height
    recorded = recorded.keep_rows(is_scored)
    assert scored.targets_fingerprint() == recorded.targets_fingerprint()
    assert scored.rows[f"p.logistic ({SECOND})"].equals(recorded.rows["p.logistic"])
    assert (
        scored.folds[0].thresholds[f"logistic ({SECOND})"]
        == (recorded.folds[0].thresholds["logistic"])
    )
    assert "held out of today's records" in today.rows
    common = read_predictions(compare_runs([FIRST, SECOND]))
    assert common.rows.height < scored.rows.height
    # of runs, the registered versions are meant
    assert compare_runs(trained.runs, on="today").run_id == today.run_id


def test_records_that_came_since_are_scored_too(trained):
    before = read_predictions(compare_runs([FIRST, SECOND], on="today"))
    replace(WARD, stays=260).write(trained.records)
    after = read_predictions(compare_runs([FIRST, SECOND], on="today"))
    assert after.rows["subject_id"].n_unique() > before.rows["subject_id"].n_unique()
    assert after.rows["stay_id"].max() > before.rows["stay_id"].max()
    assert not set(after.rows["subject_id"]) & find_seen(FIRST, SECOND)


def test_a_model_that_knows_a_held_out_subject_is_refused(trained):
    run(configure("today", trained.records, seed=4))
    with pytest.raises(
        CheckFailed, match=f"{FIRST} was developed on .* held out of today"
    ) as error:
        compare_runs([FIRST, OTHER_SPLIT], on="today")
    assert "the same seed" in str(error.value.todo)


def test_one_version_and_a_repeated_one_are_usage_errors(trained):
    with pytest.raises(UsageError, match="there is only one model"):
        compare_runs([FIRST], on="today")
    with pytest.raises(UsageError, match=f"{FIRST} is given twice"):
        compare_runs([FIRST, FIRST], on="today")
    with pytest.raises(UsageError, match=f"{FIRST} is given twice"):
        compare_runs([FIRST, trained.runs[0]], on="today")
    name = FIRST.removesuffix("/1")
    model_registry.set_alias(name, "same", 1)
    with pytest.raises(UsageError, match=f"{FIRST} is given twice"):
        compare_runs([FIRST, f"{name}@same"], on="today")
