"""Onsets that an alarm came before."""

from __future__ import annotations

from flowsheet.evaluation.metrics.base import METRICS, Metric, Needs, Sample, lead_times, ratio
from flowsheet.typing import Floats


@METRICS.register("episodes_detected")
class EpisodesDetected(Metric):
    """Share of the onsets that an alarm came before (see ``lead_time``)."""

    name = "episodes_detected"
    label = "Episodes detected"
    larger_is_better = True
    needs = Needs.lead_times
    per_stay = True

    def compute(self, sample: Sample) -> Floats:
        """Of stays with an onset."""
        return ratio(sample.total(lead_times(sample.scored) > 0), sample.positives)
