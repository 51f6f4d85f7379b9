"""PPV at 50% sensitivity."""

from __future__ import annotations

from flowsheet.evaluation.metrics._budget import ppv_for
from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample
from flowsheet.typing import Floats


@METRICS.register("ppv_at_sensitivity_50")
class PpvAtSensitivity50(Metric):
    """Share of right alarms at the threshold that finds 50% of the rows with the event."""

    name = "ppv_at_sensitivity_50"
    label = "PPV at 50% sensitivity"
    larger_is_better = True
    per_stay = True

    def compute(self, sample: Sample) -> Floats:
        """By the rows in order of probability, ties shared out."""
        return ppv_for(sample, 0.50)
