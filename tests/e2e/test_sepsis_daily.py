"""All models on the hundred patients of the open MIMIC-III demo: small classes are no crash."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

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
AUTOREGRESSIVE = {"arx", "ar", "ar1"}


class Result(NamedTuple):
    evidence: Evidence
    excluded_models: set[str]
    warnings: list[str]

    def auroc(self) -> pl.DataFrame:
        """The leaderboard's rows with the AUROC over all rows."""
        return self.evidence.leaderboard.filter(subset="all", metric="auroc")


def run_experiment(data_dir: Path, *overrides: str) -> Result:
    """The experiment without servers."""
    path = f"cohort.path={data_dir / 'mimic3-demo'}"
    config = compose("sepsis_daily", [path, *QUICK, *overrides])
    messages: list[str] = []
    extract = prepare.ingest_cohort(config.cohort, messages.append)
    windows = prepare.build_windows(extract, config.task, config.features)
    split = prepare.split_subjects(extract, windows, config.evaluation, config.seed)
    plan = plan_folds(config, extract, windows, split)
    trained = {fold.name: {} for fold in plan.folds}
    excluded = set()
    for fold in plan.folds:
        for model in config.models:
            try:
                trained[fold.name][model] = train.train_model(
                    config, model, fold.data, lambda trial: None, messages.append
                )
            except CheckFailed:
                excluded.add(model)
    for models in trained.values():
        for model in excluded:
            models.pop(model, None)
    evidence = evaluate.load_evidence(evaluate.evaluate_models(config, plan, trained))
    return Result(evidence, excluded, [line for line in messages if "warning" in line])


@pytest.mark.parametrize("task", ["next_day", "same_day"])
def test_every_model_predicts_the_state(data_dir, task):
    result = run_experiment(data_dir, f"task={task}")
    assert not result.excluded_models
    assert result.auroc()["value"].is_finite().all()
    assert result.auroc().height == 11


def test_autoregressive_models_do_not_apply_to_a_first_onset(data_dir):
    result = run_experiment(data_dir, "task=next_day_onset", "evaluation=cross_validation")
    assert result.excluded_models == AUTOREGRESSIVE
    assert result.auroc().height == 8


def test_without_any_event_nothing_is_estimable(data_dir):
    result = run_experiment(data_dir, "cohort.options.sepsis3.points=24")
    assert result.excluded_models == AUTOREGRESSIVE
    auroc = result.auroc()
    assert auroc.height == 8
    assert auroc["value"].is_nan().all()
    assert auroc["reason"].str.starts_with("0 rows with the event").all()
    assert any("0 events in" in line for line in result.warnings)
