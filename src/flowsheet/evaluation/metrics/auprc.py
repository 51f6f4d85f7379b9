"""Area under the precision-recall curve."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample, safe_divide, sum_products
from flowsheet.typing import Floats


@METRICS.register("auprc")
class Auprc(Metric):
    """Average precision: precision as a step function of recall, without interpolation.

    Equal to scikit-learn's ``average_precision_score``. The PhysioNet 2019 scorer agrees, ties
    included, unless a probability is exactly 0 or exactly 1: it then leaves out the first or last
    piece of the curve.
    """

    name = "auprc"
    label = "AUPRC"
    supports_stays = True
    larger_is_better = True

    def compute(self, sample: Sample) -> Floats:
        """Mean precision over the rows with the event, at the threshold of their probability."""
        counts = sample.threshold_counts
        precision = np.zeros_like(counts.positives)
        has_alerts = counts.positives > 0
        np.divide(counts.true_positives, counts.positives, out=precision, where=has_alerts)
        area = safe_divide(sum_products(counts.tied_events, precision), sample.n_positive)
        return np.where(sample.n_negative > 0, area, np.nan)
