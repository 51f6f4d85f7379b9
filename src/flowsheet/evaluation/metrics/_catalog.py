"""Metrics by name, and the metrics that an evaluation computes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from flowsheet.errors import UsageError, did_you_mean
from flowsheet.evaluation.metrics._operating_point import (
    OperatingPointMetric,
    from_percent,
)
from flowsheet.evaluation.metrics.base import METRICS, Metric

OPERATING_POINTS_KEY = "evaluation.operating_points"
_PERCENT = re.compile(r"\d+(_\d+)?")


def get_metric(name: str) -> Metric:
    """The metric of that name: ``auroc``, or a family at an operating point, in percent.

    >>> get_metric("ppv_at_alert_rate_5").label
    'PPV at 5% alert rate'

    Raises:
        UsageError: no metric has that name, or its operating point is missing or out of range.
    """
    for family in _families_of(name):
        percent = name.removeprefix(f"{family.family}_")
        if _PERCENT.fullmatch(percent):
            return _check_spelling(family(from_percent(percent)), name)
    metric = METRICS.get(name)
    if issubclass(metric, OperatingPointMetric):
        raise UsageError(
            f"the metric {name!r} takes {metric.parameter.with_article}, which is not specified",
            todo=f"add it in percent, for example {name}_5",
        )
    return metric()


def _check_spelling(metric: Metric, name: str) -> Metric:
    """A metric has one name only, because tables and trackers are searched by it."""
    if metric.name != name:
        raise UsageError(
            f"there is no metric called {name!r}", todo=f'did you mean "{metric.name}"?'
        )
    return metric


def _families_of(name: str) -> Iterator[type[OperatingPointMetric]]:
    """The families whose names the name begins with, the longest first."""
    prefixes = [known for known in METRICS.names() if name.startswith(f"{known}_")]
    for prefix in sorted(prefixes, key=len, reverse=True):
        metric = METRICS.get(prefix)
        if issubclass(metric, OperatingPointMetric):
            yield metric


def select_metrics(
    operating_points: Mapping[str, Sequence[float]], ranking_metric: str
) -> list[Metric]:
    """Every metric without a parameter, the families at the given points, and the ranking metric.

    Raises:
        UsageError: a family is unknown or a point out of range (the message names key and range).
    """
    selected = [metric() for _, metric in METRICS if not issubclass(metric, OperatingPointMetric)]
    for family, values in operating_points.items():
        selected += _at_operating_points(family, values)
    by_name = {metric.name: metric for metric in selected}
    ranking = get_metric(ranking_metric)
    by_name.setdefault(ranking.name, ranking)
    return sorted(by_name.values(), key=_sort_key)


def _at_operating_points(family: str, values: Sequence[float]) -> list[OperatingPointMetric]:
    metric = METRICS.get(family) if family in METRICS.names() else None
    if metric is None or not issubclass(metric, OperatingPointMetric):
        raise UsageError(
            f"no metric {family!r} has an operating point",
            where=OPERATING_POINTS_KEY,
            todo=did_you_mean(family, list_families()),
        )
    try:
        return [metric(value) for value in values]
    except UsageError as error:
        raise UsageError(
            error.what,
            where=f"{OPERATING_POINTS_KEY}.{family}",
            todo="write shares, for example [0.05, 0.1] for 5% and 10%",
        ) from None


def format_name_pattern(metric: type[Metric]) -> str:
    """The name of a metric, with a placeholder for the operating point of a family."""
    if issubclass(metric, OperatingPointMetric):
        return f"{metric.family}_<percent>"
    return metric.name


def list_families() -> list[str]:
    """The names of the metrics that take an operating point."""
    return [name for name, metric in METRICS if issubclass(metric, OperatingPointMetric)]


def _sort_key(metric: Metric) -> tuple[str, float]:
    """By name, the members of a family by their operating points."""
    if isinstance(metric, OperatingPointMetric):
        return metric.family, metric.value
    return metric.name, 0.0
