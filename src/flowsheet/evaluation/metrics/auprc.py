"""Area under the precision-recall curve."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample, ratio
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
    per_stay = True
    larger_is_better = True

    def compute(self, sample: Sample) -> Floats:
        """Mean over the rows with the event of the precision at their score."""
        curve = sample.curve
        precision = np.nan_to_num(ratio(curve.tp, curve.tp + curve.fp))
        area = ratio((curve.positive * precision).sum(axis=0), sample.positives)
        return np.where(sample.negatives > 0, area, np.nan)
