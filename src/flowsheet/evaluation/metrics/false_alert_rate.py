"""False alert rate."""

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


@METRICS.register("false_alert_rate")
class FalseAlertRate(Metric):
    """Share of rows without the event that raise an alert; per stay, of stays without the event."""

    name = "false_alert_rate"
    label = "False alert rate"
    larger_is_better = False
    requires = RequiredInput.alerts
    supports_stays = True

    def compute(self, sample: Sample) -> Floats:
        """FP / (FP + TN)."""
        scored = sample.scored
        false_alerts = sample.cached_sum(self.name, lambda: get_alerts(scored) & (scored.y == 0))
        return safe_divide(false_alerts, sample.n_negative)
