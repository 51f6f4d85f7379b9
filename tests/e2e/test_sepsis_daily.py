"""The whole ladder on the hundred subjects of the open MIMIC-III demo: small classes are said, not fallen over."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flowsheet.compose import compose
from flowsheet.errors import CheckFailed
from flowsheet.evaluation.evidence import Evidence
from flowsheet.lifecycle.experiment import evaluate, prepare, train
from flowsheet.lifecycle.experiment.folds import plan_folds

pytestmark = [pytest.mark.realdata, pytest.mark.slow]

QUICK = [
    "tuning=none",
    "registry.register_models=false",
    "evaluation.resamples=50",
    "features.aggregations=[last]",
    "features.treatments=none",
    "features.missing_indicators=false",
    "features.hours_since_measured=false",
    "models.gradient_boosting.params.rounds=10",
    *(f"models.{model}.params.epochs=1" for model in ("lstm", "gru", "rnn", "mlp")),
]
OF_HISTORY = {"arx", "ar", "ar1"}


def compared(data_dir: Path, *overrides: str) -> tuple[Evidence, set[str], list[str]]:
    """The evidence, the models that were left out, and the warnings."""
    config = compose(
        "sepsis_daily", [f"cohort.path={data_dir / 'mimic3-demo'}", *QUICK, *overrides]
    )
    said: list[str] = []
    extract = prepare.ingest_cohort(config.cohort, said.append)
    windows = prepare.build_windows(extract, config.task, config.features)
    rounds = plan_folds(
        config,
        extract,
        windows,
        prepare.split_subjects(extract, windows, config.evaluation, config.seed),
    )
    trained, left_out = {}, set()
    for each in rounds.folds:
        trained[each.name] = {}
        for model in config.models:
            try:
                trained[each.name][model] = train.train_model(
                    config, model, each.data, lambda *_: None, said.append
                )
            except CheckFailed:
                left_out.add(model)
    kept = {
        name: {m: s for m, s in some.items() if m not in left_out} for name, some in trained.items()
    }
    evidence = Evidence.load(evaluate.evaluate_models(config, rounds, kept).folder)
    return evidence, left_out, [line for line in said if "warning" in line]


def overall(evidence: Evidence) -> pl.DataFrame:
    return evidence.leaderboard.filter(pl.col("subset") == "all", pl.col("metric") == "auroc")


@pytest.mark.parametrize("task", ["next_day", "same_day"])
def test_every_model_is_compared_on_the_state(data_dir, task):
    evidence, left_out, _ = compared(data_dir, f"task={task}")
    assert not left_out
    assert overall(evidence)["value"].is_finite().all()
    assert overall(evidence).height == 11


def test_models_of_the_history_do_not_apply_to_a_first_onset(data_dir):
    evidence, left_out, _ = compared(data_dir, "task=next_day_onset", "evaluation=cross_validation")
    assert left_out == OF_HISTORY
    assert overall(evidence).height == 8


def test_nobody_septic_is_not_estimable(data_dir):
    evidence, left_out, warnings = compared(data_dir, "cohort.options.sepsis3.points=24")
    assert left_out == OF_HISTORY
    board = overall(evidence)
    assert board.height == 8
    assert board["value"].is_nan().all()
    assert board["reason"].str.starts_with("0 rows with the event").all()
    assert any("0 events in" in line for line in warnings)
