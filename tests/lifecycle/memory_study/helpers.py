"""A memory report made up by hand."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.lifecycle.memory_study import LAW, METRIC_NAMES
from flowsheet.lifecycle.memory_study.report import MemoryReport

MARKUP_NAME = "<b>&rnn"


def make_memory_report(replicates: int = 2) -> MemoryReport:
    lag = np.arange(5)
    truth = np.array([0.0, -1.0, -2.0, -1.0, 0.0])
    responses = [
        pl.DataFrame(
            {
                "replicate": r,
                "model": model,
                "drug": "insulin",
                "lag": lag,
                "response": values + 0.1 * r * told,
            }
        )
        for r in range(replicates)
        for model, values, told in (
            ("lstm", truth, 1),
            (MARKUP_NAME, truth / 2, 1),
            ("arx", np.where(lag, 0.0, -1.0), 0),
        )
    ]
    gradients = [
        pl.DataFrame(
            {"replicate": r, "model": model, "lag": lag, "norm": rate**lag, "relative": rate**lag}
        )
        for r in range(replicates)
        for model, rate in (("lstm", 0.9), (MARKUP_NAME, 0.3))
    ]
    metrics = (*METRIC_NAMES, "share")
    figures = [
        {"model": m, "metric": metric, "value": v, "low": v - 0.01, "high": v + 0.01, "replicates_low": v - 0.02,
         "replicates_high": v + 0.02, "values": [v] * replicates}
        for m, v in ((LAW, 0.2), ("lstm", 0.25), (MARKUP_NAME, 0.3), ("arx", 0.4))
        for metric in metrics
    ]  # fmt: skip
    return MemoryReport(
        curves=pl.DataFrame({"drug": "insulin", "shape": "hump", "lag": lag, "effect": truth}),
        responses=pl.concat(responses),
        gradients=pl.concat(gradients),
        figures=pl.DataFrame(figures),
        orders=pl.DataFrame(
            {
                "first": ["lstm"],
                "second": [MARKUP_NAME],
                "sentence": [f"lstm before {MARKUP_NAME}."],
            }
        ),
        about={
            "models": {
                "lstm": "recurrent",
                MARKUP_NAME: "recurrent",
                "arx": "autoregressive with covariates",
            },
            "closer": ["lstm", MARKUP_NAME, "arx"],
            "baseline": "arx",
            "far": 3,
            "doses": 1.0,
            "confidence": 0.95,
            "resamples": 200,
            "seeds": list(range(replicates)),
            "trials": 2,
            "followed": [9] * replicates,
            "subjects": [50] * replicates,
            "step_hours": 24.0,
        },
    )
