"""Figures of merit: one small file each, found by name."""

from flowsheet.evaluation.metrics._score import monitorable, score_function
from flowsheet.evaluation.metrics.base import METRICS, Metric, Needs, Scored

__all__ = ["METRICS", "Metric", "Needs", "Scored", "monitorable", "score_function"]
