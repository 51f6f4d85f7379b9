"""Net benefit at 20% risk."""

from __future__ import annotations

from flowsheet.evaluation.metrics._decision import net_benefit
from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample
from flowsheet.typing import Floats


@METRICS.register("net_benefit_at_20")
class NetBenefitAt20(Metric):
    """What alarms from a risk of 20% on are worth: one right alarm makes up for 4 false ones.

    In right alarms a row, false ones taken off (Vickers and Elkin 2006); 0 is silence, the
    prevalence is the most.
    """

    name = "net_benefit_at_20"
    label = "Net benefit at 20% risk"
    larger_is_better = True
    decimals = 4

    def compute(self, sample: Sample) -> Floats:
        """Alarms at p >= 0.2."""
        return net_benefit(sample, 0.20)
