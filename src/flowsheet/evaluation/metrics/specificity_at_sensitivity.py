"""Specificity at a fixed sensitivity."""

from __future__ import annotations

from flowsheet.evaluation.metrics._operating_point import (
    SENSITIVITY,
    OperatingPointMetric,
    count_alerts_at_sensitivity,
)
from flowsheet.evaluation.metrics.base import METRICS, Sample, safe_divide
from flowsheet.typing import Floats


@METRICS.register("specificity_at_sensitivity")
class SpecificityAtSensitivity(OperatingPointMetric):
    """Share of rows without the event and without an alert, at a fixed share of the events found.

    Ties at the threshold are shared out.
    """

    family = "specificity_at_sensitivity"
    parameter = SENSITIVITY
    label_format = "Specificity at {} sensitivity"
    larger_is_better = True
    supports_stays = True

    def compute(self, sample: Sample) -> Floats:
        """1 - false alerts over rows without the event."""
        n_false = count_alerts_at_sensitivity(sample, self.value).n_false
        return 1 - safe_divide(n_false, sample.n_negative)
