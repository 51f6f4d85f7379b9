"""Net benefit at a threshold probability: the clinical usefulness of acting on a model."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics._operating_point import THRESHOLD, OperatingPointMetric
from flowsheet.evaluation.metrics.base import METRICS, Sample, safe_divide
from flowsheet.typing import Floats


@METRICS.register("net_benefit_at")
class NetBenefitAt(OperatingPointMetric):
    """True alerts less weighted false alerts a row, with alerts at p >= threshold probability.

    The threshold probability t implies that one true alert is worth (1 - t) / t false ones (Vickers
    and Elkin 2006). 0 is the net benefit of no alerts, the prevalence that of perfect predictions.
    """

    family = "net_benefit_at"
    parameter = THRESHOLD
    label_format = "Net benefit at {} threshold"
    larger_is_better = True
    decimals = 4

    def compute(self, sample: Sample) -> Floats:
        """TP / N - FP / N * t / (1 - t)."""
        scored = sample.scored

        def benefit_by_row() -> Floats:
            cost = self.value / (1 - self.value)
            benefit = np.where(scored.y == 1, 1.0, -cost)
            return np.where(scored.p >= self.value, benefit, 0.0)

        benefit = sample.cached_sum(self.name, benefit_by_row)
        return np.where(sample.n_positive > 0, safe_divide(benefit, sample.n_rows), np.nan)
