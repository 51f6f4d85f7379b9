"""Logarithmic loss."""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics.base import METRICS, Metric, Sample, ScoredRows, ratio
from flowsheet.typing import Floats

EPSILON = float(np.finfo(np.float64).eps)
"""Probabilities are kept this far from 0 and 1, as scikit-learn does."""


@METRICS.register("log_loss")
class LogLoss(Metric):
    """Mean negative log likelihood in nats; equal to scikit-learn's ``log_loss``."""

    name = "log_loss"
    label = "Log loss"
    larger_is_better = False
    decimals = 4

    def compute(self, sample: Sample) -> Floats:
        """Weighted mean of the rows' losses."""
        losses = sample.scored.cached("log loss", lambda: _losses(sample.scored))
        return ratio(sample.total(losses), sample.rows)


def _losses(scored: ScoredRows) -> Floats:
    p = np.clip(scored.p, EPSILON, 1 - EPSILON)
    losses: Floats = -np.log(np.where(scored.y == 1, p, 1 - p))
    return losses
