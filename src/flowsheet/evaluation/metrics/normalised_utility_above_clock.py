"""Share of the room above the clock by Utility."""

from __future__ import annotations

from flowsheet.evaluation.metrics._above_clock import AboveClockMetric
from flowsheet.evaluation.metrics.base import METRICS
from flowsheet.evaluation.metrics.normalised_utility import NormalisedUtility


@METRICS.register("normalised_utility_above_clock")
class NormalisedUtilityAboveClock(AboveClockMetric):
    """(Model - clock) / (1 - clock) of ``normalised_utility``."""

    name = "normalised_utility_above_clock"
    label = "Utility above clock"
    of = NormalisedUtility
