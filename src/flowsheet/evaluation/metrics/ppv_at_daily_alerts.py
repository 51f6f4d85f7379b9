"""Positive predictive value at a budget of alerts per patient-day."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics._operating_point import (
    DAILY_ALERTS,
    OperatingPointMetric,
    count_true_alerts,
)
from flowsheet.evaluation.metrics.alerts_per_patient_day import rows_a_day
from flowsheet.evaluation.metrics.base import METRICS, RequiredInput, Sample, safe_divide
from flowsheet.typing import Floats


@METRICS.register("ppv_at_daily_alerts")
class PpvAtDailyAlerts(OperatingPointMetric):
    """Share of alerts that are true with a budget of alerts per 100 patient-days.

    As ``ppv_at_alert_rate``, at the share of rows that spends the budget, so that tasks with hourly
    and with daily steps compare. Not defined where the budget is more than an alert at each row.
    """

    family = "ppv_at_daily_alerts"
    parameter = DAILY_ALERTS
    label_format = "PPV at {} alerts per patient-day"
    larger_is_better = True
    requires = RequiredInput.step_hours

    def compute(self, sample: Sample) -> Floats:
        """True alerts over alerts."""
        rate = self.value / rows_a_day(sample.scored)
        if rate > 1:
            return np.full(sample.size, np.nan)
        ppv = safe_divide(count_true_alerts(sample, rate), rate * sample.n_rows)
        return np.where(sample.n_positive > 0, ppv, np.nan)
