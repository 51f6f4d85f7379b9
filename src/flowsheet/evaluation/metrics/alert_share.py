"""How often there is an alert."""

from __future__ import annotations

from typing import ClassVar

from flowsheet.evaluation.metrics.base import (
    METRICS,
    Metric,
    RequiredInput,
    Sample,
    count_alerts,
    safe_divide,
)
from flowsheet.typing import Floats


@METRICS.register("alert_share")
class AlertShare(Metric):
    """Share of predictions that raise an alert at the decision threshold.

    It says what a model costs, not how good it is: pairs are not tested by it.
    """

    name = "alert_share"
    label = "Alerts per prediction"
    larger_is_better: ClassVar[bool | None] = False
    requires = RequiredInput.alerts
    is_compared = False

    def compute(self, sample: Sample) -> Floats:
        """(TP + FP) / N."""
        return safe_divide(count_alerts(sample), sample.n_positive + sample.n_negative)
