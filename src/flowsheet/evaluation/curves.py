"""The curves behind the figures, thinned to what a chart can show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from flowsheet.config import EvaluationConfig
from flowsheet.evaluation.bootstrap import percentile_interval, resample_weights
from flowsheet.evaluation.metrics.base import Sample, ScoredRows, ratio
from flowsheet.evaluation.metrics.ece import bins_between
from flowsheet.evaluation.results import Results
from flowsheet.typing import Floats

CURVES: dict[str, pl.DataType] = {
    "curve": pl.String(),  # roc, pr, calibration or decision
    "subset": pl.String(),
    "model": pl.String(),
    "x": pl.Float64(),  # false positive rate, recall, mean probability, or risk from which on to act
    "y": pl.Float64(),  # true positive rate, precision, observed frequency, or net benefit
    "low": pl.Float64(),  # interval of y, where there is one
    "high": pl.Float64(),
    "rows": pl.Int64(),  # in a calibration bin
}

POINTS = 200
RISKS = np.round(
    np.concatenate(
        [np.arange(0.001, 0.02, 0.001), np.arange(0.02, 0.1, 0.005), np.arange(0.1, 0.96, 0.01)]
    ),
    3,
)
"""Of the decision curve."""
CALIBRATION_QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Tenths of the rows, and the highest tenth in three: where events are rare, that is where the alarms are."""


def all_curves(contest: Results, models: Sequence[str], seed: int) -> pl.DataFrame:
    """The points of every model in every subset that is no subgroup, from the first repetition.

    Per stay there is no calibration and no decision: the highest of many probabilities is not one
    itself.
    """
    parts = [
        _curves(contest.scored[subset.name, model][0], contest.config, seed).with_columns(
            subset=pl.lit(subset.name), model=pl.lit(model)
        )
        for subset in contest.subsets
        for model in models
        if not subset.is_subgroup and not contest.scored[subset.name, model][0].reason_not_estimable
    ]
    return pl.concat([pl.DataFrame(schema=CURVES), *parts], how="diagonal")


def _curves(scored: ScoredRows, config: EvaluationConfig, seed: int) -> pl.DataFrame:
    alarms, hits = _sweep(scored)
    others = alarms - hits
    parts = [
        _line("roc", others / others[-1], hits / hits[-1]),
        _line("pr", hits[1:] / hits[-1], hits[1:] / alarms[1:]),
    ]
    if not scored.per_stay:
        parts += [_calibration(scored, config, seed), _decision(scored)]
    return pl.concat(parts, how="diagonal")


def _sweep(scored: ScoredRows) -> tuple[Floats, Floats]:
    """Alarms and hits from no alarm to all, a step for every distinct probability."""
    _, place = np.unique(-scored.p, return_inverse=True)
    alarms, hits = np.bincount(place), np.bincount(place, scored.y)
    return np.concatenate([[0.0], np.cumsum(alarms)]), np.concatenate([[0.0], np.cumsum(hits)])


def _line(name: str, x: Floats, y: Floats) -> pl.DataFrame:
    """At most ``POINTS`` points, evenly spread along the line."""
    along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], POINTS)))
    return pl.DataFrame({"curve": name, "x": x[kept], "y": y[kept]})


def _decision(scored: ScoredRows) -> pl.DataFrame:
    """Net benefit over the risk from which on one would act (see ``metrics._decision``)."""
    rows = len(scored.y)
    where = np.searchsorted(np.sort(scored.p), RISKS)  # first row at or above
    hits = scored.events - np.searchsorted(np.sort(scored.p[scored.y == 1]), RISKS)
    alarms = rows - where
    return pl.DataFrame(
        {
            "curve": "decision",
            "x": RISKS,
            "y": hits / rows - (alarms - hits) / rows * RISKS / (1 - RISKS),
        }
    )


def _calibration(scored: ScoredRows, config: EvaluationConfig, seed: int) -> pl.DataFrame:
    bins = bins_between(scored.p, CALIBRATION_QUANTILES)
    members = [bins == b for b in np.unique(bins)]
    frequencies = [np.zeros(0) for _ in members]
    for weights in resample_weights(scored.subjects, config.resamples, seed, len(scored.y)):
        sample = Sample(scored, weights)
        for i, inside in enumerate(members):
            found = ratio(sample.total(inside * scored.y), sample.total(inside))
            frequencies[i] = np.concatenate([frequencies[i], found])
    limits = [percentile_interval(found, config.confidence) for found in frequencies]
    return pl.DataFrame(
        {
            "curve": "calibration",
            "x": [float(scored.p[inside].mean()) for inside in members],
            "y": [float(scored.y[inside].mean()) for inside in members],
            "low": [low for low, _ in limits],
            "high": [high for _, high in limits],
            "rows": [int(inside.sum()) for inside in members],
        }
    )
