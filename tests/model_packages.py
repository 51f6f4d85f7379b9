"""Small fitted model packages for tests, built as an experiment builds them.

A conftest that imports the fixtures ``tables`` and ``model_package`` offers them to its tests.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.models.base import MODELS, Context
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.windows.build import build_sequences, collect_vocabulary
from flowsheet.windows.scaling import Scaler

VARIABLES, DRUGS = ("hr", "temp"), ("norepinephrine",)
TASK = TaskConfig(name="t", step_hours=6, horizon=1, history_lags=3)
FEATURES = FeaturesConfig(name="f", aggregations=("last", "max"))


@pytest.fixture(scope="session")
def tables() -> Tables:
    return ward_tables()


@pytest.fixture(scope="session")
def model_package(tables, tmp_path_factory) -> ModelPackage:
    return fit_model_package(tmp_path_factory.mktemp("fit"), "logistic_regression", tables)


def ward_tables(stays: int = 40, seed: int = 0) -> Tables:
    """Random stays of 20 to 60 hours; half of them are treated, half have an episode."""
    rng = np.random.default_rng(seed)
    start = datetime(2000, 1, 1)
    stay_ids = np.arange(stays) + 100
    hours = rng.integers(20, 60, stays)
    rows = 12 * stays
    stay = rng.integers(0, stays, rows)
    event_hours = np.round(rng.uniform(0, hours[stay]), 2)
    times = [start + timedelta(hours=float(hour)) for hour in event_hours]
    delays = rng.integers(0, 90, rows)
    known = [
        time + timedelta(minutes=int(delay)) for time, delay in zip(times, delays, strict=True)
    ]
    values = np.round(rng.normal(90, 15, rows), 1)
    events = contract_table(
        "events",
        {
            "stay_id": stay_ids[stay],
            "time": times,
            "known_at": known,
            "variable": rng.choice(VARIABLES, rows),
            "value": values,
        },
    )
    dose_starts = [start + timedelta(hours=int(h)) for h in rng.integers(0, 20, stays // 2)]
    treatments = contract_table(
        "treatments",
        {
            "stay_id": stay_ids[: stays // 2],
            "drug": ["norepinephrine"] * (stays // 2),
            "start": dose_starts,
            "end": [dose_start + timedelta(hours=5) for dose_start in dose_starts],
            "known_at": dose_starts,
            "dose": rng.integers(1, 9, stays // 2) / 2,
        },
    )
    onsets = [start + timedelta(hours=int(h)) for h in rng.integers(5, 18, stays // 2)]
    episodes = contract_table(
        "episodes",
        {
            "stay_id": stay_ids[::2],
            "onset": onsets,
            "known_at": [onset + timedelta(hours=2) for onset in onsets],
        },
    )
    stay_rows = contract_table(
        "stays",
        {
            "stay_id": stay_ids,
            "subject_id": stay_ids,
            "admitted_at": [start] * stays,
            "discharged_at": [start + timedelta(hours=int(h)) for h in hours],
            "age": rng.integers(20, 90, stays).astype(float),
            "sex": rng.choice(["F", "M"], stays),
        },
    )
    return Tables(stay_rows, events, treatments, episodes)


def contract_table(table: str, columns: dict) -> pl.DataFrame:
    """A table of the contract; columns that are not given are null."""
    rows = len(columns["stay_id"])
    filled = {name: columns.get(name, [None] * rows) for name in TABLES[table]}
    return pl.DataFrame(filled, schema=TABLES[table])


def fit_model_package(
    folder: Path,
    kind: str,
    tables: Tables,
    training_key: str = "k" * 64,
    features: FeaturesConfig = FEATURES,
    **params,
) -> ModelPackage:
    """Fit a model of that kind on the tables and write its package to ``folder``."""
    vocabulary = collect_vocabulary(tables)
    sequences = build_sequences(tables, TASK, features, VARIABLES, DRUGS, vocabulary)
    scaler = Scaler.fit(sequences) if MODELS.get(kind).capabilities.scaled else None
    inputs = scaler.transform(sequences) if scaler else sequences
    model = MODELS.get(kind)(MODELS.get(kind).Params(**params))
    model.fit(inputs, inputs, Context(seed=1))
    model_folder = folder / "saved"
    model_folder.mkdir(parents=True)
    model.save(model_folder)
    return ModelPackage.write(
        folder / "model_package",
        kind=kind,
        model=model_folder,
        scaler=scaler,
        task=TASK,
        features=features,
        columns={"variables": VARIABLES, "drugs": DRUGS, "vocabulary": vocabulary},
        training_key=training_key,
    )
