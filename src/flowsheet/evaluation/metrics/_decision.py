"""Net benefit: what acting on a model is worth to somebody who would act from a certain risk on."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics.base import Sample, ratio
from flowsheet.typing import Floats


def net_benefit(sample: Sample, threshold: float) -> Floats:
    """TP / N - FP / N * t / (1 - t) with alarms at p >= t, shape (B,) (Vickers and Elkin 2006).

    In right alarms a row: 0 is silence, the prevalence is perfection. Acting from risk t on says
    that one right alarm is worth (1 - t) / t false ones.
    """
    scored = sample.scored

    def worth() -> Floats:
        cost = threshold / (1 - threshold)
        return np.where(scored.p >= threshold, np.where(scored.y == 1, 1.0, -cost), 0.0)

    earned = sample.total(scored.cached(f"net benefit {threshold}", worth))
    return np.where(sample.positives > 0, ratio(earned, sample.rows), np.nan)
