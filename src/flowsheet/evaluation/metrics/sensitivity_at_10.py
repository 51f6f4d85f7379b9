"""Sensitivity at 10% alarms."""

from __future__ import annotations

from flowsheet.evaluation.metrics._budget import sensitivity
from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample
from flowsheet.typing import Floats


@METRICS.register("sensitivity_at_10")
class SensitivityAt10(Metric):
    """Share of the rows with the event that are reached when 10% of all rows raise an alarm."""

    name = "sensitivity_at_10"
    label = "Sensitivity at 10% alarms"
    larger_is_better = True

    def compute(self, sample: Sample) -> Floats:
        """By the alarm budget, ties shared out."""
        return sensitivity(sample, 0.10)
