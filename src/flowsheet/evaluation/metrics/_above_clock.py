"""Metrics of the room above the clock: what a model adds to the time since admission.

A good part of a model's performance is told by the clock alone (see ``models.clock``). The share of
the room above it is (model - clock) / (perfect - clock): 0 is a model that adds nothing, 1 a
perfect one, and a negative value is below the clock. It is the skill score of forecasting with the
clock as the reference (Murphy and Winkler 1987).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from flowsheet.evaluation.metrics.base import (
    Metric,
    RequiredInput,
    Sample,
    ScoredRows,
    get_clock_sample,
    safe_divide,
)
from flowsheet.typing import Floats


class AboveClockMetric(Metric):
    """The share of the room above the clock by another metric, of which a perfect model has 1."""

    larger_is_better = True
    requires = RequiredInput.clock
    is_compared = False  # the same resamples order models as the metric itself does
    of: ClassVar[type[Metric]]

    def compute(self, sample: Sample) -> Floats:
        """(Model - clock) / (1 - clock)."""
        metric = self.of()
        clock = metric.compute_once(get_clock_sample(sample))
        return share_of_room(metric.compute_once(sample), clock, np.ones_like(clock))

    def is_applicable(self, scored: ScoredRows) -> bool:
        """Where the clock's predictions are known, and the other metric applies."""
        return super().is_applicable(scored) and self.of().is_applicable(scored)


def share_of_room(value: Floats, floor: Floats, best: Floats) -> Floats:
    """(value - floor) / (best - floor); NaN where there is no room."""
    room = np.where(best > floor, best - floor, 0.0)
    return safe_divide(value - floor, room)
