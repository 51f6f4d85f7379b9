"""Alarm rate at 50% sensitivity."""

from __future__ import annotations

from flowsheet.evaluation.metrics._budget import alarm_rate_for
from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample
from flowsheet.typing import Floats


@METRICS.register("alarm_rate_at_sensitivity_50")
class AlarmRateAtSensitivity50(Metric):
    """Share of all rows that raise an alarm at the threshold that finds 50% of the rows with the event."""

    name = "alarm_rate_at_sensitivity_50"
    label = "Alarm rate at 50% sensitivity"
    larger_is_better = False
    per_stay = True

    def compute(self, sample: Sample) -> Floats:
        """By the rows in order of probability, ties shared out."""
        return alarm_rate_for(sample, 0.50)
