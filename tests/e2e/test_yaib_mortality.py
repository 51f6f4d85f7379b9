"""A YAIB cohort with one label a stay: from its files to a leaderboard, as the docs say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flowsheet.compose import compose
from flowsheet.lifecycle.experiment import evaluate, prepare, train
from flowsheet.lifecycle.experiment.folds import plan_folds

HOURS = 25


def write_cohort(folder: Path, stays: int = 240) -> Path:
    """Stays whose heart rate tells of death."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    severity = rng.normal(size=stays)
    label = (rng.random(stays) < 1 / (1 + np.exp(1.5 - 2 * severity))).astype(int)
    ids = np.arange(1, stays + 1)
    noise = rng.normal(size=(2, stays * HOURS)) * 8
    dyn = {
        "stay_id": np.repeat(ids, HOURS),
        "time": np.tile(np.arange(HOURS), stays),
        "hr": 85 + 15 * np.repeat(severity, HOURS) + noise[0],
        "map": 75 + noise[1],
    }
    pl.DataFrame(dyn).write_parquet(folder / "dyn.parquet")
    pl.DataFrame({"stay_id": ids, "label": label}).write_parquet(folder / "outc.parquet")
    sta = pl.DataFrame({"stay_id": ids, "sex": np.where(ids % 2, "Male", "Female")})
    sta = sta.with_columns(age=60.0, height=170.0, weight=75.0)
    sta.write_parquet(folder / "sta.parquet")
    return folder


@pytest.mark.slow
def test_mortality_of_a_yaib_cohort_is_predicted(tmp_path: Path, flowsheet_home: Path):
    overrides = [
        "cohort=yaib",
        f"cohort.path={write_cohort(tmp_path / 'mortality')}",
        "cohort.options.response=death",
        "task=mortality_24h",
        "models=[logistic_regression]",
        "evaluation.resamples=20",
    ]
    config = compose("first_look", overrides)
    extract = prepare.ingest_cohort(config.cohort, lambda line: None)
    windows = prepare.build_windows(extract, config.task, config.features)
    split = prepare.split_subjects(extract, windows, config.evaluation, config.seed)
    plan = plan_folds(config, extract, windows, split)
    (fold,) = plan.folds
    model = train.train_model(
        config, "logistic_regression", fold.data, lambda trial: None, lambda line: None
    )
    trained = {fold.name: {"logistic_regression": model}}
    evidence = evaluate.load_evidence(evaluate.evaluate_models(config, plan, trained))
    auroc = evidence.leaderboard.filter(subset="all", metric="auroc", model="logistic_regression")
    assert auroc["value"].item() > 0.75
