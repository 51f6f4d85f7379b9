"""Brier score."""

from __future__ import annotations

from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample, ratio
from flowsheet.typing import Floats


@METRICS.register("brier")
class Brier(Metric):
    """Mean squared difference between probability and outcome (Brier 1950); 0 is perfect."""

    name = "brier"
    label = "Brier score"
    per_stay = True
    larger_is_better = False
    decimals = 4

    def compute(self, sample: Sample) -> Floats:
        """Weighted mean of squared differences."""
        return ratio(sample.total((sample.scored.p - sample.scored.y) ** 2), sample.rows)
