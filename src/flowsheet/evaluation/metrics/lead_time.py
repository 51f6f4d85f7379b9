"""Lead time before onset."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics.base import METRICS, Metric, RequiredInput, Sample, get_lead_times
from flowsheet.typing import Floats


@METRICS.register("lead_time")
class LeadTime(Metric):
    """Median hours from a stay's first alert to its onset, over the onsets with an earlier alert.

    An onset is dated to the end of the step in which it falls: the true lead time is shorter by up
    to one step. Read it together with ``episodes_detected`` and ``false_alert_rate``: a model that
    always raises an alert is always early. Every model detects other episodes, so that medians are
    not tested in pairs.
    """

    name = "lead_time"
    label = "Lead time, h"
    larger_is_better = True
    decimals = 1
    requires = RequiredInput.lead_times
    is_compared = False
    supports_stays = True

    def compute(self, sample: Sample) -> Floats:
        """Weighted median; of an even number of stays the middle of the two middle values."""
        hours = get_lead_times(sample.scored)
        detected = np.flatnonzero(hours > 0)
        order = detected[np.argsort(hours[detected], kind="stable")]
        if not len(order):
            return np.full(sample.size, np.nan)
        cumulative = np.cumsum(sample.weights[sample.scored.subject[order]], axis=0)
        half = cumulative[-1] / 2
        lower = (cumulative >= half).argmax(axis=0)
        upper = (cumulative > half).argmax(axis=0)
        median = (hours[order][lower] + hours[order][upper]) / 2
        return np.where(half > 0, median, np.nan)
