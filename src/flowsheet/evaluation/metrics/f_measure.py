"""F-measure of the alarms."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics.base import METRICS, Metric, Needs, Sample, alarms
from flowsheet.typing import Floats


@METRICS.register("f_measure")
class FMeasure(Metric):
    """Harmonic mean of sensitivity and positive predictive value; 1 when there is nothing to find and no alarm."""

    name = "f_measure"
    label = "F-measure"
    per_stay = True
    larger_is_better = True
    needs = Needs.alarms

    def compute(self, sample: Sample) -> Floats:
        """2 TP / (2 TP + FP + FN)."""
        alarm = alarms(sample.scored)
        hits = sample.total(alarm & (sample.scored.y == 1))
        rung_or_due = sample.total(alarm) + sample.positives
        return np.divide(2 * hits, rung_or_due, out=np.ones_like(hits), where=rung_or_due > 0)
