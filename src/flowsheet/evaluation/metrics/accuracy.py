"""Accuracy of the alarms."""

from __future__ import annotations

from flowsheet.evaluation.metrics.base import METRICS, Metric, Needs, Sample, alarms, ratio
from flowsheet.typing import Floats


@METRICS.register("accuracy")
class Accuracy(Metric):
    """Share of rows whose alarm is right. Where events are rare, silence scores well: read it beside the others."""

    name = "accuracy"
    label = "Accuracy"
    larger_is_better = True
    needs = Needs.alarms

    def compute(self, sample: Sample) -> Floats:
        """Right rows over rows."""
        return ratio(sample.total(alarms(sample.scored) == (sample.scored.y == 1)), sample.rows)
