"""False alarms."""

from __future__ import annotations

from flowsheet.evaluation.metrics.base import METRICS, Metric, Needs, Sample, alarms, ratio
from flowsheet.typing import Floats


@METRICS.register("false_alert_rate")
class FalseAlarmRate(Metric):
    """Share of the rows without the event that ring; per stay: of the stays without the event that ever ring."""

    name = "false_alert_rate"
    label = "False alarm rate"
    larger_is_better = False
    needs = Needs.alarms
    per_stay = True

    def compute(self, sample: Sample) -> Floats:
        """Of rows with y = 0."""
        scored = sample.scored
        return ratio(sample.total(alarms(scored) & (scored.y == 0)), sample.negatives)
