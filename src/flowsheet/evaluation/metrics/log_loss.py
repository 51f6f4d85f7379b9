"""Logarithmic loss."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample, safe_divide
from flowsheet.numerics import log_losses
from flowsheet.typing import Floats

EPSILON = float(np.finfo(np.float64).eps)
"""The smallest likelihood of a row, as in scikit-learn."""


@METRICS.register("log_loss")
class LogLoss(Metric):
    """Mean negative log likelihood in nats; equal to scikit-learn's ``log_loss``."""

    name = "log_loss"
    label = "Log loss"
    larger_is_better = False
    decimals = 4

    def compute(self, sample: Sample) -> Floats:
        """Weighted mean of the rows' losses."""
        scored = sample.scored
        losses = sample.cached_sum(self.name, lambda: log_losses(scored.y, scored.p, EPSILON))
        return safe_divide(losses, sample.n_rows)
