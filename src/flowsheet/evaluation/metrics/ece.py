"""Expected calibration error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample, safe_divide
from flowsheet.typing import Floats, Ints

DECILES = tuple(i / 10 for i in range(1, 10))


@METRICS.register("ece")
class ExpectedCalibrationError(Metric):
    """Mean distance between predicted and observed frequency over ten bins of equal count.

    (Naeini et al. 2015; bins of equal count, because with rare events most probabilities lie near
    0.) Absolute values do not average out: resampled values lie above the value itself, and
    no interval is given.
    """

    name = "ece"
    label = "ECE"
    larger_is_better = False
    decimals = 4
    has_interval = False

    def compute(self, sample: Sample) -> Floats:
        """The bins' absolute errors, weighted by their rows."""
        scored = sample.scored
        bins = scored.cached("bins", lambda: quantile_bins(scored.p, DECILES))
        errors = [
            np.abs(sample.weighted_sum((scored.p - scored.y) * (bins == b)))
            for b in np.unique(bins)
        ]
        if not errors:
            return np.full(sample.size, np.nan)
        return safe_divide(np.sum(errors, axis=0), sample.n_rows)


def quantile_bins(p: Floats, quantiles: Sequence[float]) -> Ints:
    """The bin of each row (N,) between the quantiles of ``p``; equal probabilities share a bin."""
    if not len(p):
        return np.zeros(0, np.int64)
    return np.searchsorted(np.unique(np.quantile(p, quantiles)), p).astype(np.int64)
