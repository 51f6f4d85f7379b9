"""Positive predictive value at a fixed sensitivity."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics._operating_point import (
    SENSITIVITY,
    OperatingPointMetric,
    count_alerts_at_sensitivity,
)
from flowsheet.evaluation.metrics.base import METRICS, Sample, safe_divide
from flowsheet.typing import Floats


@METRICS.register("ppv_at_sensitivity")
class PpvAtSensitivity(OperatingPointMetric):
    """Share of alerts that are true at the threshold that finds a fixed share of the events.

    Ties at the threshold are shared out.
    """

    family = "ppv_at_sensitivity"
    parameter = SENSITIVITY
    label_format = "PPV at {} sensitivity"
    larger_is_better = True
    supports_stays = True

    def compute(self, sample: Sample) -> Floats:
        """True alerts over alerts."""
        n_alerts = count_alerts_at_sensitivity(sample, self.value).n_alerts
        ppv = safe_divide(self.value * sample.n_positive, n_alerts)
        return np.where(sample.n_negative > 0, ppv, np.nan)
