"""Positive predictive value of the alerts."""

from __future__ import annotations

from typing import ClassVar

from flowsheet.evaluation.metrics.base import (
    METRICS,
    Metric,
    RequiredInput,
    Sample,
    count_alerts,
    count_true_alerts,
    safe_divide,
)
from flowsheet.typing import Floats


@METRICS.register("alert_ppv")
class AlertPPV(Metric):
    """Share of the alerts that are right; not defined without an alert.

    Every model raises other alerts, so that pairs are not tested by it.
    """

    name = "alert_ppv"
    label = "PPV of the alerts"
    larger_is_better: ClassVar[bool | None] = True
    requires = RequiredInput.alerts
    is_compared = False

    def compute(self, sample: Sample) -> Floats:
        """TP / (TP + FP)."""
        true_alerts, alerts = count_true_alerts(sample), count_alerts(sample)
        return safe_divide(true_alerts, alerts)
