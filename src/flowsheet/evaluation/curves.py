"""ROC, precision-recall, calibration and decision curves, with as many points as a chart needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from flowsheet.evaluation.bootstrap import percentile_interval
from flowsheet.evaluation.calibration_bins import find_calibration_bins
from flowsheet.evaluation.metrics.base import ScoredRows
from flowsheet.evaluation.results import EvaluationResults
from flowsheet.typing import AnyArray, Bools, Floats

CURVES: dict[str, pl.DataType] = {
    "curve": pl.String(),  # roc, pr, calibration or decision
    "subset": pl.String(),
    "model": pl.String(),
    "x": pl.Float64(),  # false positive rate, recall, mean probability or threshold probability
    "y": pl.Float64(),  # true positive rate, precision, observed frequency or net benefit
    "low": pl.Float64(),  # interval of y, where there is one
    "high": pl.Float64(),
    "rows": pl.Int64(),  # in a calibration bin
}

MAX_POINTS = 120
THRESHOLDS = np.round(
    np.concatenate(
        [np.arange(0.001, 0.02, 0.001), np.arange(0.02, 0.1, 0.005), np.arange(0.1, 0.96, 0.01)]
    ),
    3,
)
"""Threshold probabilities of the decision curve."""


def compute_curves(results: EvaluationResults, models: Sequence[str]) -> pl.DataFrame:
    """The curves of the models in every subset but subgroups, from the first repetition.

    Stays have no calibration and no decision curve: the highest of many probabilities is not a
    probability itself.
    """
    parts = [pl.DataFrame(schema=CURVES)]
    for subset in results.subsets:
        for model in models:
            if results.has_curves(subset, model):
                curves = _model_curves(results, subset.name, model)
                parts.append(curves.with_columns(subset=pl.lit(subset.name), model=pl.lit(model)))
    return pl.concat(parts, how="diagonal")


def _model_curves(results: EvaluationResults, subset: str, model: str) -> pl.DataFrame:
    scored = results.scored[subset, model][0]
    n_alerts, n_true = _count_alerts(scored)
    n_false = n_alerts - n_true
    parts = [
        _thinned_line("roc", n_false / n_false[-1], n_true / n_true[-1]),
        _thinned_line("pr", n_true[1:] / n_true[-1], n_true[1:] / n_alerts[1:]),
    ]
    if not scored.is_per_stay:
        draws = results.calibration[subset, model]
        parts.append(calibration_curve(scored, draws, results.config.confidence))
        parts.append(_decision_curve(scored))
    return pl.concat(parts, how="diagonal")


def _count_alerts(scored: ScoredRows) -> tuple[Floats, Floats]:
    """Weighted alerts and true alerts at each distinct probability, from no alert to all rows."""
    _, index = np.unique(-scored.p, return_inverse=True)
    n_alerts = np.cumsum(np.bincount(index, scored.weigh(np.ones(len(index)))))
    n_true = np.cumsum(np.bincount(index, scored.weigh(scored.y)))
    return np.concatenate([[0.0], n_alerts]), np.concatenate([[0.0], n_true])


def _thinned_line(curve: str, x: Floats, y: Floats) -> pl.DataFrame:
    """At most ``MAX_POINTS`` points, evenly spread along the line."""
    steps = np.abs(np.diff(x)) + np.abs(np.diff(y))
    distance = np.concatenate([[0.0], np.cumsum(steps)])
    spacing = np.linspace(0, distance[-1], MAX_POINTS)
    points = np.unique(np.searchsorted(distance, spacing))
    return pl.DataFrame({"curve": curve, "x": x[points], "y": y[points]})


def _decision_curve(scored: ScoredRows) -> pl.DataFrame:
    """Net benefit over the threshold probability (see ``metrics.net_benefit_at``)."""
    ones = np.ones(len(scored.y))
    n_true = _sums_at_thresholds(scored, scored.y)
    n_alerts = _sums_at_thresholds(scored, ones)
    n_rows = scored.weigh(ones).sum()
    n_false = n_alerts - n_true
    benefit = n_true / n_rows - n_false / n_rows * THRESHOLDS / (1 - THRESHOLDS)
    return pl.DataFrame({"curve": "decision", "x": THRESHOLDS, "y": benefit})


def _sums_at_thresholds(scored: ScoredRows, values: AnyArray) -> Floats:
    """The weighted sum of ``values`` (N,) over the rows at or above each of ``THRESHOLDS``."""
    order = np.argsort(scored.p, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(scored.weigh(values)[order])])
    return np.asarray(below[-1] - below[np.searchsorted(scored.p[order], THRESHOLDS)])


def calibration_curve(
    scored: ScoredRows, draws: Sequence[Floats], confidence: float
) -> pl.DataFrame:
    """Predicted and observed frequency of each bin, with intervals; columns as in ``CURVES``.

    Args:
        scored: rows with their probabilities.
        draws: of each bin the frequency in each resample (``resample_calibration``).
        confidence: of the intervals.
    """
    masks = find_calibration_bins(scored)
    limits = [percentile_interval(bin_draws, confidence) for bin_draws in draws]
    return pl.DataFrame(
        {
            "curve": "calibration",
            "x": [_weighted_mean(scored, scored.p, mask) for mask in masks],
            "y": [_weighted_mean(scored, scored.y, mask) for mask in masks],
            "low": [low for low, _ in limits],
            "high": [high for _, high in limits],
            "rows": [int(mask.sum()) for mask in masks],
        }
    )


def _weighted_mean(scored: ScoredRows, values: AnyArray, mask: Bools) -> float:
    weights = None if scored.weight is None else scored.weight[mask]
    return float(np.average(values[mask], weights=weights))
