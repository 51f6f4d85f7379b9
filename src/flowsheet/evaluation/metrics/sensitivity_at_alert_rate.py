"""Sensitivity at a fixed alert rate."""

from __future__ import annotations

from flowsheet.evaluation.metrics._operating_point import (
    ALERT_RATE,
    OperatingPointMetric,
    count_true_alerts,
)
from flowsheet.evaluation.metrics.base import METRICS, Sample, safe_divide
from flowsheet.typing import Floats


@METRICS.register("sensitivity_at_alert_rate")
class SensitivityAtAlertRate(OperatingPointMetric):
    """Share of the rows with the event that are found at a fixed share of alert rows.

    The rows with the highest probabilities raise the alerts; ties are shared out.
    """

    family = "sensitivity_at_alert_rate"
    parameter = ALERT_RATE
    label_format = "Sensitivity at {} alert rate"
    larger_is_better = True

    def compute(self, sample: Sample) -> Floats:
        """True alerts over rows with the event."""
        return safe_divide(count_true_alerts(sample, self.value), sample.n_positive)
