"""A memory report made up by hand."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.lifecycle.memory_study.oracle_bound import METRIC_NAMES, ORACLE, SHARE
from flowsheet.lifecycle.memory_study.report_data import MemoryReport

MARKUP_NAME = "<b>&rnn"
"""The name of a model that must be escaped."""
LAG = np.arange(5)
TRUE_EFFECT = np.array([0.0, -1.0, -2.0, -1.0, 0.0])


def make_memory_report(n_replicates: int = 2) -> MemoryReport:
    """A study in which lstm learned the true effect, MARKUP_NAME half of it, arx lag 0 only."""
    replicates = range(n_replicates)
    return MemoryReport(
        effects=pl.DataFrame(
            {"drug": "insulin", "shape": "hump", "lag": LAG, "effect": TRUE_EFFECT}
        ),
        responses=pl.concat([make_responses(replicate) for replicate in replicates]),
        gradients=pl.concat([make_gradients(replicate) for replicate in replicates]),
        scores=make_scores(n_replicates),
        comparisons=pl.DataFrame(
            {
                "first": ["lstm"],
                "second": [MARKUP_NAME],
                "summary": [f"The log loss of lstm is lower than that of {MARKUP_NAME}."],
            }
        ),
        about={
            "models": {
                "lstm": "recurrent",
                MARKUP_NAME: "recurrent",
                "arx": "autoregressive with covariates",
            },
            "highlighted_models": ["lstm", MARKUP_NAME, "arx"],
            "baseline": "arx",
            "gradient_lag": 3,
            "dose": 1.0,
            "confidence": 0.95,
            "resamples": 200,
            "seeds": list(replicates),
            "trials": 2,
            "long_stays": [9] * n_replicates,
            "subjects": [50] * n_replicates,
            "step_hours": 24.0,
        },
    )


def make_responses(replicate: int) -> pl.DataFrame:
    """The responses of one replicate; those with a memory are 0.1 larger in each next one."""
    learned = {
        "lstm": TRUE_EFFECT + 0.1 * replicate,
        MARKUP_NAME: TRUE_EFFECT / 2 + 0.1 * replicate,
        "arx": np.where(LAG, 0.0, -1.0),
    }
    parts = [
        pl.DataFrame(
            {
                "replicate": replicate,
                "model": model,
                "drug": "insulin",
                "lag": LAG,
                "response": response,
            }
        )
        for model, response in learned.items()
    ]
    return pl.concat(parts)


def make_gradients(replicate: int) -> pl.DataFrame:
    decay = {"lstm": 0.9, MARKUP_NAME: 0.3}
    parts = [
        pl.DataFrame(
            {
                "replicate": replicate,
                "model": model,
                "lag": LAG,
                "norm": rate**LAG,
                "relative": rate**LAG,
            }
        )
        for model, rate in decay.items()
    ]
    return pl.concat(parts)


def make_scores(n_replicates: int) -> pl.DataFrame:
    """Every metric of a model has the same value."""
    value_of_model = {ORACLE: 0.2, "lstm": 0.25, MARKUP_NAME: 0.3, "arx": 0.4}
    rows = [
        {
            "model": model,
            "metric": metric,
            "value": value,
            "low": value - 0.01,
            "high": value + 0.01,
            "replicates_low": value - 0.02,
            "replicates_high": value + 0.02,
            "values": [value] * n_replicates,
        }
        for model, value in value_of_model.items()
        for metric in (*METRIC_NAMES, SHARE)
    ]
    return pl.DataFrame(rows)
