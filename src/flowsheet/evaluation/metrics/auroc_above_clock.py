"""Share of the room above the clock by AUROC."""

from __future__ import annotations

from flowsheet.evaluation.metrics._above_clock import AboveClockMetric
from flowsheet.evaluation.metrics.auroc import Auroc
from flowsheet.evaluation.metrics.base import METRICS


@METRICS.register("auroc_above_clock")
class AurocAboveClock(AboveClockMetric):
    """(Model - clock) / (1 - clock) of ``auroc``."""

    name = "auroc_above_clock"
    label = "AUROC above clock"
    of = Auroc
