"""Whether a model names the drug that made the risk rise, on the simulated ward; JSON lines.

    python benchmarks/explanations.py [--features standard doses] [--models lstm gru] [--stays 8000]
        [--cohort simulated_icu]

Trains on 70% of the subjects of a simulated ward, by default that of the demonstration, explains
held-out rises of the true risk (by at least 0.5 log odds from one step to the next) of which the
direct effect of one drug makes at least half, and prints how often the explanation names that drug
first among all concepts.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import polars as pl
from scipy.special import logit

from flowsheet.cohort.ingest import make_source
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.sources.simulated import compute_dose_effects, compute_oracle
from flowsheet.compose import compose
from flowsheet.config import ExperimentConfig
from flowsheet.lifecycle.memory_study.rises import find_rises, rank_causes
from flowsheet.models.base import MODELS, Context
from flowsheet.windows.build import build_sequences, collect_vocabulary
from flowsheet.windows.scaling import Scaler
from flowsheet.windows.sequences import Sequences

PARAMS = {"standard": {"epochs": 20}, "doses": {"epochs": 30, "input_dropout": 0, "dropout": 0.05}}
"""Parameters of the networks: those of the demonstration, and like those of the memory study."""
EXPLAINED_STAYS = 400


def build_parts(config: ExperimentConfig) -> dict[str, Sequences]:
    """The training, validation and held-out stays of the experiment's ward."""
    source = make_source(config.cohort)
    batches = list(source.batches())
    tables = Tables(*(pl.concat(getattr(b, table) for b in batches) for table in TABLES))
    vocabulary = collect_vocabulary(tables)
    sequences = build_sequences(
        tables, config.task, config.features, source.variables, source.drugs, vocabulary
    )
    subjects = np.random.default_rng(0).permutation(np.unique(sequences.subject_id))
    cuts = [int(share * len(subjects)) for share in (0.7, 0.85)]
    train, valid, test = np.split(subjects, cuts)
    return {
        "train": sequences.select_subjects(train),
        "valid": sequences.select_subjects(valid),
        "test": sequences.select_subjects(test).take(np.arange(EXPLAINED_STAYS)),
    }


def true_log_odds(sequences: Sequences, config: ExperimentConfig) -> np.ndarray:
    """The true log odds of every row."""
    oracle = compute_oracle(make_source(config.cohort).options).sort("stay_id", "time")
    step = pl.int_range(1, pl.len() + 1).over("stay_id").cast(pl.Int32)
    rows = pl.DataFrame({"stay_id": sequences.stay_id[sequences.row_stay], "step": sequences.step})
    joined = rows.join(
        oracle.with_columns(step=step), on=["stay_id", "step"], how="left", maintain_order="left"
    )
    return logit(joined["probability"].to_numpy())


def measure(kind: str, parts: dict[str, Sequences], config: ExperimentConfig) -> dict:
    """Train a model and count the rises whose cause it names."""
    cls = MODELS.get(kind)
    scaler = Scaler.fit(parts["train"]) if cls.capabilities.scaled else None
    scaled = {n: scaler.transform(part) if scaler else part for n, part in parts.items()}
    known = PARAMS[config.features.name] if kind in {"lstm", "gru", "rnn"} else {}
    model = cls(cls.Params(**known))
    model.fit(scaled["train"], scaled["valid"], Context(seed=1))
    effects = compute_dose_effects(make_source(config.cohort).options)
    rises = find_rises(parts["test"], true_log_odds(parts["test"], config), effects)
    start = time.process_time()
    ranks = rank_causes(model, scaled["test"], rises)
    seconds = time.process_time() - start
    by_drug = {
        drug: [int(np.sum(of_drug)), round(float(np.mean(ranks[of_drug] == 1)), 2)]
        for drug in sorted(set(rises.drugs))
        for of_drug in [np.array(rises.drugs) == drug]
    }
    return {
        "features": config.features.name,
        "model": kind,
        "rises": len(ranks),
        "named_first": round(float(np.mean(ranks == 1)), 3),
        "among_three": round(float(np.mean(ranks <= 3)), 3),
        "ms_per_rise": round(1000 * seconds / len(ranks), 1),
        "by_drug": by_drug,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", nargs="+", default=["standard", "doses"], choices=PARAMS)
    parser.add_argument(
        "--models",
        nargs="+",
        default=["lstm", "gru", "rnn", "gradient_boosting", "mlp", "logistic_regression"],
    )
    parser.add_argument("--stays", type=int, default=8000)
    parser.add_argument("--cohort", default="simulated_icu")
    options = parser.parse_args()
    for features in options.features:
        choices = [f"features={features}", f"cohort.options.stays={options.stays}"]
        config = compose("demo", [f"cohort={options.cohort}", *choices])
        parts = build_parts(config)
        for kind in options.models:
            print(json.dumps(measure(kind, parts, config)), flush=True)


if __name__ == "__main__":
    main()
