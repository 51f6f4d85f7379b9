"""Share of the room above the clock by AUPRC."""

from __future__ import annotations

from flowsheet.evaluation.metrics._above_clock import AboveClockMetric
from flowsheet.evaluation.metrics.auprc import Auprc
from flowsheet.evaluation.metrics.base import METRICS


@METRICS.register("auprc_above_clock")
class AuprcAboveClock(AboveClockMetric):
    """(Model - clock) / (1 - clock) of ``auprc``."""

    name = "auprc_above_clock"
    label = "AUPRC above clock"
    of = Auprc
