"""Which rows rank the models.

Where the response is a state, history predicts that it persists: a model that repeats the last
response is accurate over all rows, and useless for the patients who are not yet in the state. So
the models are ranked by new onsets where these are a part of the rows and the ranking metric is
estimable on them, else by all rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flowsheet.evaluation.metrics import Metric, get_metric
from flowsheet.evaluation.results import EvaluationResults
from flowsheet.evaluation.subsets import ALL, NEW_ONSETS


@dataclass(frozen=True)
class ModelRanking:
    """The models' order and the subset of rows that gives it."""

    models: list[str]
    """Best first; those without a value come last."""
    subset: str
    best_over_all_rows: str
    fallback_reason: str = ""
    """Why all rows rank the models although new onsets are a part of them; else empty."""


def rank_models(results: EvaluationResults) -> ModelRanking:
    """Order the models by the metric of the leaderboard."""
    metric = get_metric(results.config.metric)
    over_all_rows = _order_by(results, ALL, metric)
    best = over_all_rows[0]
    if NEW_ONSETS not in {subset.name for subset in results.subsets}:
        return ModelRanking(over_all_rows, ALL, best)
    reason = _find_reason_not_estimable(results, metric)
    if reason:
        return ModelRanking(over_all_rows, ALL, best, reason)
    return ModelRanking(_order_by(results, NEW_ONSETS, metric), NEW_ONSETS, best)


def _order_by(results: EvaluationResults, subset: str, metric: Metric) -> list[str]:
    def sort_key(model: str) -> tuple[bool, float, str]:
        value = _compute_value(results, subset, model, metric)
        badness = 0.0 if math.isnan(value) else _badness(metric, value)
        return math.isnan(value), badness, model

    return sorted(results.models, key=sort_key)


def _compute_value(results: EvaluationResults, subset: str, model: str, metric: Metric) -> float:
    """NaN where the metric is not applicable or not estimable."""
    if not metric.is_applicable(results.scored[subset, model][0]):
        return math.nan
    return results.compute_mean(subset, model, metric)


def _find_reason_not_estimable(results: EvaluationResults, metric: Metric) -> str:
    """Why no model has a value among new onsets; empty where one has."""
    values = [_compute_value(results, NEW_ONSETS, m, metric) for m in results.models]
    if not all(math.isnan(value) for value in values):
        return ""
    scored = results.scored[NEW_ONSETS, results.models[0]][0]
    if not metric.is_applicable(scored):
        return f"{metric.label} requires {metric.requires}"
    return scored.reason_not_estimable or "the metric is not defined for these predictions"


def _badness(metric: Metric, value: float) -> float:
    """The smaller, the better."""
    if metric.larger_is_better is None:
        return abs(value - metric.ideal)
    return -value if metric.larger_is_better else value
