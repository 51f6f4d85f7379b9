"""Brier score."""

from __future__ import annotations

from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample, safe_divide
from flowsheet.typing import Floats


@METRICS.register("brier")
class Brier(Metric):
    """Mean squared difference between probability and outcome (Brier 1950); 0 is perfect."""

    name = "brier"
    label = "Brier score"
    supports_stays = True
    larger_is_better = False
    decimals = 4

    def compute(self, sample: Sample) -> Floats:
        """Weighted mean of the squared differences."""
        scored = sample.scored
        squares = sample.cached_sum(self.name, lambda: (scored.p - scored.y) ** 2)
        return safe_divide(squares, sample.n_rows)
