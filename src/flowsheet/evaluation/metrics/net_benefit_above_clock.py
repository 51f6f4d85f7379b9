"""Share of the room above the clock by net benefit."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics._above_clock import share_of_room
from flowsheet.evaluation.metrics._operating_point import THRESHOLD, OperatingPointMetric
from flowsheet.evaluation.metrics.base import (
    METRICS,
    RequiredInput,
    Sample,
    get_clock_sample,
    safe_divide,
)
from flowsheet.evaluation.metrics.net_benefit_at import NetBenefitAt
from flowsheet.typing import Floats


@METRICS.register("net_benefit_above_clock")
class NetBenefitAboveClock(OperatingPointMetric):
    """(Model - clock) / (perfect - clock) of ``net_benefit_at``, at a threshold probability.

    A perfect model's net benefit is the prevalence. Where alerting nobody is better than the clock,
    it stands in for the clock.
    """

    family = "net_benefit_above_clock"
    parameter = THRESHOLD
    label_format = "Net benefit above clock at {} threshold"
    larger_is_better = True
    requires = RequiredInput.clock
    is_compared = False

    def compute(self, sample: Sample) -> Floats:
        """(Model - floor) / (prevalence - floor)."""
        metric = NetBenefitAt(self.value)
        floor = np.maximum(metric.compute_once(get_clock_sample(sample)), 0.0)
        prevalence = safe_divide(sample.n_positive, sample.n_rows)
        return share_of_room(metric.compute_once(sample), floor, prevalence)
