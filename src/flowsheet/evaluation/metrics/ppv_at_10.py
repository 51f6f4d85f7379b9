"""PPV at 10% alarms."""

from __future__ import annotations

from flowsheet.evaluation.metrics._budget import ppv
from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample
from flowsheet.typing import Floats


@METRICS.register("ppv_at_10")
class PpvAt10(Metric):
    """Share of right alarms when 10% of all rows raise one (positive predictive value)."""

    name = "ppv_at_10"
    label = "PPV at 10% alarms"
    larger_is_better = True

    def compute(self, sample: Sample) -> Floats:
        """By the alarm budget, ties shared out."""
        return ppv(sample, 0.10)
