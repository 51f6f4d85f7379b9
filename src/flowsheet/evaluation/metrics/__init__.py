"""Figures of merit: one small file each, found by name."""

from flowsheet.evaluation.metrics._score import is_monitorable, make_score_function
from flowsheet.evaluation.metrics.base import METRICS, Metric, Needs, ScoredRows

__all__ = ["METRICS", "Metric", "Needs", "ScoredRows", "is_monitorable", "make_score_function"]
