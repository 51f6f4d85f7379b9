"""Expected calibration error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample, ratio
from flowsheet.typing import Floats, Ints

TENTHS = tuple(i / 10 for i in range(1, 10))


@METRICS.register("ece")
class ExpectedCalibrationError(Metric):
    """Mean distance between predicted and observed frequency over ten bins of equal count.

    (Naeini et al. 2015; bins of equal count, because rare events crowd near 0.) An absolute value
    never averages out, so that resamples lie above the figure itself: no interval is given.
    """

    name = "ece"
    label = "ECE"
    larger_is_better = False
    decimals = 4
    resampled = False

    def compute(self, sample: Sample) -> Floats:
        """Bin by bin, weighted by the bin's rows."""
        scored = sample.scored
        bins = scored.cached("bins", lambda: bins_between(scored.p, TENTHS))
        gaps = [np.abs(sample.total((scored.p - scored.y) * (bins == b))) for b in np.unique(bins)]
        return (
            ratio(np.sum(gaps, axis=0), sample.rows)
            if gaps
            else np.full(sample.weights.shape[1], np.nan)
        )


def bins_between(p: Floats, quantiles: Sequence[float]) -> Ints:
    """The bin of each row (N,) between the quantiles of ``p``; equal probabilities fall together."""
    if not len(p):
        return np.zeros(0, np.int64)
    return np.searchsorted(np.unique(np.quantile(p, quantiles)), p).astype(np.int64)
