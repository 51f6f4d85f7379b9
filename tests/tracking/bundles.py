"""A small fitted bundle, made the way an experiment makes one."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.models.base import MODELS, Context
from flowsheet.prediction.model_package import Bundle
from flowsheet.windows.build import build_sequences, collect_vocabulary
from flowsheet.windows.scaling import Scaler

VARIABLES, DRUGS = ("hr", "temp"), ("norepinephrine",)
TASK = TaskConfig(name="t", step_hours=6, horizon=1, history_lags=3)
FEATURES = FeaturesConfig(name="f", aggregations=("last", "max"))


def frame(table: str, columns: dict) -> pl.DataFrame:
    rows = len(columns["stay_id"])
    filled = {name: columns.get(name, [None] * rows) for name in TABLES[table]}
    return pl.DataFrame(filled, schema=TABLES[table])


def ward(stays: int = 40, seed: int = 0) -> Tables:
    rng = np.random.default_rng(seed)
    start = datetime(2000, 1, 1)
    ids = np.arange(stays) + 100
    hours = rng.integers(20, 60, stays)
    n = 12 * stays
    stay = rng.integers(0, stays, n)
    when = [start + timedelta(hours=float(h)) for h in np.round(rng.uniform(0, hours[stay]), 2)]
    known = [
        t + timedelta(minutes=int(m)) for t, m in zip(when, rng.integers(0, 90, n), strict=True)
    ]
    values = np.round(rng.normal(90, 15, n), 1)
    events = frame(
        "events",
        {
            "stay_id": ids[stay],
            "time": when,
            "known_at": known,
            "variable": rng.choice(VARIABLES, n),
            "value": values,
        },
    )
    given = [start + timedelta(hours=int(h)) for h in rng.integers(0, 20, stays // 2)]
    later = [t + timedelta(hours=5) for t in given]
    treatments = frame(
        "treatments",
        {"stay_id": ids[: stays // 2], "drug": ["norepinephrine"] * (stays // 2), "start": given, "end": later,
         "known_at": given, "dose": rng.integers(1, 9, stays // 2) / 2},
    )  # fmt: skip
    onset = [start + timedelta(hours=int(h)) for h in rng.integers(5, 18, stays // 2)]
    episodes = frame(
        "episodes",
        {"stay_id": ids[::2], "onset": onset, "known_at": [t + timedelta(hours=2) for t in onset]},
    )
    people = frame(
        "stays",
        {"stay_id": ids, "subject_id": ids, "admitted_at": [start] * stays,
         "discharged_at": [start + timedelta(hours=int(h)) for h in hours],
         "age": rng.integers(20, 90, stays).astype(float), "sex": rng.choice(["F", "M"], stays)},
    )  # fmt: skip
    return Tables(people, events, treatments, episodes)


def make(folder: Path, kind: str, tables: Tables, training_key: str = "k" * 64, **params) -> Bundle:
    vocabulary = collect_vocabulary(tables)
    sequences = build_sequences(tables, TASK, FEATURES, VARIABLES, DRUGS, vocabulary)
    scaler = Scaler.fit(sequences) if MODELS.get(kind).capabilities.scaled else None
    ready = scaler.transform(sequences) if scaler else sequences
    model = MODELS.get(kind)(MODELS.get(kind).Params(**params))
    model.fit(ready, ready, Context(seed=1))
    saved = folder / "saved"
    saved.mkdir(parents=True)
    model.save(saved)
    return Bundle.write(
        folder / "bundle", kind=kind, model=saved, scaler=scaler, task=TASK, features=FEATURES,
        columns={"variables": VARIABLES, "drugs": DRUGS, "vocabulary": vocabulary}, training_key=training_key,
    )  # fmt: skip
