"""One figure for one model's rows, larger is better: what a tuner watches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flowsheet.errors import UsageError
from flowsheet.evaluation.metrics.base import METRICS, Metric, Needs, ScoredRows
from flowsheet.typing import AnyArray


def make_score_function(metric: str) -> Callable[[AnyArray, AnyArray], float]:
    """A function of (y, p) of which larger is better; it may be sent to another process.

    NaN where there is no row of either kind. Losses are negated.

    >>> import numpy as np
    >>> make_score_function("auroc")(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875

    Raises:
        UsageError: there is no such metric, or it does not rank models by their probabilities.
    """
    chosen = METRICS.get(metric)
    if not is_monitorable(chosen):
        known = [name for name, each in METRICS if is_monitorable(each)]
        raise UsageError(
            f"the metric {metric!r} cannot be monitored: it does not rank models by their probabilities",
            todo=f"choose one of {', '.join(known)}",
        )
    return partial(_score, metric)


def is_monitorable(metric: type[Metric]) -> bool:
    """Whether the metric ranks models by probabilities alone."""
    return metric.needs is Needs.probabilities and metric.larger_is_better is not None


def _score(metric: str, y: AnyArray, p: AnyArray) -> float:
    chosen = METRICS.get(metric)()
    value = chosen(ScoredRows.from_arrays(y, p))
    return value if chosen.larger_is_better else -value
