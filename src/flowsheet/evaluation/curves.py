"""ROC, precision-recall, calibration and decision curves, with as many points as a chart needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from flowsheet.config import CLOCK, FLOOR_MODELS, EvaluationConfig
from flowsheet.evaluation.bootstrap import percentile_interval, resample_weights
from flowsheet.evaluation.metrics.base import Sample, ScoredRows, safe_divide
from flowsheet.evaluation.metrics.ece import quantile_bins
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
CALIBRATION_QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Deciles, with the highest one in three bins: where events are rare, the alerts lie there."""


def compute_curves(results: EvaluationResults, models: Sequence[str], seed: int) -> pl.DataFrame:
    """The curves of the models in every subset but subgroups, from the first repetition.

    Of the floor only the clock has curves: the others would hide the models.

    Stays have no calibration and no decision curve: the highest of many probabilities is not a
    probability itself.
    """
    parts = [pl.DataFrame(schema=CURVES)]
    drawn = [model for model in models if model == CLOCK or model not in FLOOR_MODELS]
    for subset in results.subsets:
        for model in drawn:
            scored = results.scored[subset.name, model][0]
            if not subset.is_subgroup and not scored.reason_not_estimable:
                curves = _model_curves(scored, results.config, seed)
                parts.append(curves.with_columns(subset=pl.lit(subset.name), model=pl.lit(model)))
    return pl.concat(parts, how="diagonal")


def _model_curves(scored: ScoredRows, config: EvaluationConfig, seed: int) -> pl.DataFrame:
    n_alerts, n_true = _count_alerts(scored)
    n_false = n_alerts - n_true
    parts = [
        _thinned_line("roc", n_false / n_false[-1], n_true / n_true[-1]),
        _thinned_line("pr", n_true[1:] / n_true[-1], n_true[1:] / n_alerts[1:]),
    ]
    if not scored.is_per_stay:
        parts.append(calibration_curve(scored, config.resamples, config.confidence, seed))
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
    scored: ScoredRows, resamples: int, confidence: float, seed: int
) -> pl.DataFrame:
    """Predicted and observed frequency of each bin, with intervals; columns as in ``CURVES``.

    Args:
        scored: rows with their probabilities.
        resamples: of the subjects, for the intervals.
        confidence: of the intervals.
        seed: of the resamples.
    """
    bins = quantile_bins(scored.p, CALIBRATION_QUANTILES)
    masks = [bins == b for b in np.unique(bins)]
    draws: list[list[Floats]] = [[] for _ in masks]
    n_rows = len(scored.y)
    for weights in resample_weights(scored.n_subjects, resamples, seed, n_rows):
        sample = Sample(scored, weights)
        for mask, bin_draws in zip(masks, draws, strict=True):
            n_events = sample.weighted_sum(mask * scored.y)
            bin_draws.append(safe_divide(n_events, sample.weighted_sum(mask)))
    limits = [
        percentile_interval(np.concatenate([np.zeros(0), *bin_draws]), confidence)
        for bin_draws in draws
    ]
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
