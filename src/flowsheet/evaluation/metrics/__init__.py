"""Measures of predictive performance: one small file each, found by name."""

from flowsheet.evaluation.metrics._catalog import (
    format_name_pattern,
    get_metric,
    list_families,
    select_metrics,
)
from flowsheet.evaluation.metrics._operating_point import OperatingPointMetric
from flowsheet.evaluation.metrics._score import is_monitorable, make_score_function
from flowsheet.evaluation.metrics.base import METRICS, Metric, RequiredInput, ScoredRows

__all__ = [
    "METRICS",
    "Metric",
    "OperatingPointMetric",
    "RequiredInput",
    "ScoredRows",
    "format_name_pattern",
    "get_metric",
    "is_monitorable",
    "list_families",
    "make_score_function",
    "select_metrics",
]
