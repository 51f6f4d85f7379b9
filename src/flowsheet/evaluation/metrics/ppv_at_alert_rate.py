"""Positive predictive value at a fixed alert rate."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics._operating_point import (
    ALERT_RATE,
    OperatingPointMetric,
    count_true_alerts,
)
from flowsheet.evaluation.metrics.base import METRICS, Sample, safe_divide
from flowsheet.typing import Floats


@METRICS.register("ppv_at_alert_rate")
class PpvAtAlertRate(OperatingPointMetric):
    """Share of alerts that are true (positive predictive value) at a fixed share of alert rows.

    The rows with the highest probabilities raise the alerts; ties are shared out.
    """

    family = "ppv_at_alert_rate"
    parameter = ALERT_RATE
    label_format = "PPV at {} alert rate"
    larger_is_better = True

    def compute(self, sample: Sample) -> Floats:
        """True alerts over alerts."""
        true_alerts = count_true_alerts(sample, self.value)
        ppv = safe_divide(true_alerts, self.value * sample.n_rows)
        return np.where(sample.n_positive > 0, ppv, np.nan)
