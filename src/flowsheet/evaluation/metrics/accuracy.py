"""Accuracy of the alerts."""

from __future__ import annotations

from flowsheet.evaluation.metrics.base import (
    METRICS,
    Metric,
    RequiredInput,
    Sample,
    get_alerts,
    safe_divide,
)
from flowsheet.typing import Floats


@METRICS.register("accuracy")
class Accuracy(Metric):
    """Share of rows that are classified correctly.

    Where events are rare, it is high without any alert: read it together with other metrics.
    """

    name = "accuracy"
    label = "Accuracy"
    larger_is_better = True
    requires = RequiredInput.alerts

    def compute(self, sample: Sample) -> Floats:
        """Correctly classified rows over rows."""
        scored = sample.scored
        correct = sample.cached_sum(self.name, lambda: get_alerts(scored) == (scored.y == 1))
        return safe_divide(correct, sample.n_rows)
