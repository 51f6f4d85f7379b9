"""PPV at 5% alarms."""

from __future__ import annotations

from flowsheet.evaluation.metrics._budget import ppv
from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample
from flowsheet.typing import Floats


@METRICS.register("ppv_at_5")
class PpvAt5(Metric):
    """Share of right alarms when 5% of all rows raise one (positive predictive value)."""

    name = "ppv_at_5"
    label = "PPV at 5% alarms"
    larger_is_better = True

    def compute(self, sample: Sample) -> Floats:
        """By the alarm budget, ties shared out."""
        return ppv(sample, 0.05)
