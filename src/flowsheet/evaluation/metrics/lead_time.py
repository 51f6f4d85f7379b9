"""Lead time before onset."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics.base import METRICS, Metric, Needs, Sample, lead_times
from flowsheet.typing import Floats


@METRICS.register("lead_time")
class LeadTime(Metric):
    """Median hours from a stay's first alarm to its first onset, over the onsets that an alarm came
    before.

    An onset is dated to the end of the step in which it falls: the true lead is shorter by up to
    one step. To be read beside ``episodes_detected`` and the false alarms: who rings always is
    early always. Every model has detected episodes of its own, so that medians are not tested in
    pairs.
    """

    name = "lead_time"
    label = "Lead time, h"
    larger_is_better = True
    decimals = 1
    needs = Needs.lead_times
    compared = False
    per_stay = True

    def compute(self, sample: Sample) -> Floats:
        """Weighted median, the middle of the two middle values where there are two."""
        lead = lead_times(sample.scored)
        detected = np.flatnonzero(lead > 0)
        order = detected[np.argsort(lead[detected], kind="stable")]
        if not len(order):
            return np.full(sample.weights.shape[1], np.nan)
        reached = np.cumsum(sample.weights[sample.scored.subject[order]], axis=0)
        half = reached[-1] / 2
        low, high = ((reached >= half).argmax(axis=0), (reached > half).argmax(axis=0))
        return np.where(half > 0, (lead[order][low] + lead[order][high]) / 2, np.nan)
