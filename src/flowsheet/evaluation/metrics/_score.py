"""One number for one model's predictions, larger is better: what tuning maximizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from flowsheet.errors import UsageError
from flowsheet.evaluation.metrics._catalog import format_name_pattern, get_metric
from flowsheet.evaluation.metrics.base import METRICS, Metric, RequiredInput, ScoredRows
from flowsheet.typing import AnyArray, Bools, Floats


def make_score_function(
    metric: str, rows: Bools | None = None, weight: Floats | None = None
) -> Callable[[AnyArray, AnyArray], float]:
    """A function of (y, p) whose result is larger for better predictions.

    It can be sent to another process. Losses are negated; NaN without rows of both classes.

    ``rows`` says which of the rows of y and p count, ``weight`` how much each of them counts
    (shape (n,) both); None: all, and all alike.

    >>> import numpy as np
    >>> make_score_function("auroc")(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875

    Raises:
        UsageError: there is no such metric, or it does not rank models by probabilities alone.
    """
    if not is_monitorable(get_metric(metric)):
        choices = [format_name_pattern(known) for _, known in METRICS if is_monitorable(known)]
        raise UsageError(
            f"the metric {metric!r} cannot be monitored: "
            "it does not rank models by their probabilities",
            todo=f"choose one of {', '.join(choices)}",
        )
    return partial(_score, metric, rows, weight)


def is_monitorable(metric: Metric | type[Metric]) -> bool:
    """Whether the metric ranks models by their probabilities alone."""
    is_from_probabilities = metric.requires is RequiredInput.probabilities
    return is_from_probabilities and metric.larger_is_better is not None


def _score(
    metric_name: str, rows: Bools | None, weight: Floats | None, y: AnyArray, p: AnyArray
) -> float:
    metric = get_metric(metric_name)
    chosen = np.ones(len(y), np.bool_) if rows is None else rows
    scored = ScoredRows.from_arrays(y[chosen], p[chosen])
    if weight is not None:
        scored = replace(scored, weight=weight[chosen])
    value = metric(scored)
    return value if metric.larger_is_better else -value
