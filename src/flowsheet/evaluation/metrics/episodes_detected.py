"""Onsets that an alert precedes."""

from __future__ import annotations

from flowsheet.evaluation.metrics.base import (
    METRICS,
    Metric,
    RequiredInput,
    Sample,
    get_lead_times,
    safe_divide,
)
from flowsheet.typing import Floats


@METRICS.register("episodes_detected")
class EpisodesDetected(Metric):
    """Share of the onsets that an alert precedes (see ``lead_time``)."""

    name = "episodes_detected"
    label = "Episodes detected"
    larger_is_better = True
    requires = RequiredInput.lead_times
    supports_stays = True

    def compute(self, sample: Sample) -> Floats:
        """Stays with an earlier alert over stays with an onset."""
        detected = sample.cached_sum(self.name, lambda: get_lead_times(sample.scored) > 0)
        return safe_divide(detected, sample.n_positive)
