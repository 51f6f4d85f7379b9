"""Alert rate at a fixed sensitivity."""

from __future__ import annotations

from flowsheet.evaluation.metrics._operating_point import (
    SENSITIVITY,
    OperatingPointMetric,
    count_alerts_at_sensitivity,
)
from flowsheet.evaluation.metrics.base import METRICS, Sample, safe_divide
from flowsheet.typing import Floats


@METRICS.register("alert_rate_at_sensitivity")
class AlertRateAtSensitivity(OperatingPointMetric):
    """Share of rows that raise an alert at the threshold that finds a fixed share of the events.

    Ties at the threshold are shared out.
    """

    family = "alert_rate_at_sensitivity"
    parameter = SENSITIVITY
    label_format = "Alert rate at {} sensitivity"
    larger_is_better = False
    supports_stays = True

    def compute(self, sample: Sample) -> Floats:
        """Alerts over rows."""
        return safe_divide(count_alerts_at_sensitivity(sample, self.value).n_alerts, sample.n_rows)
