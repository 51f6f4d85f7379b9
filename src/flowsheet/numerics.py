"""Formulas that several layers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from flowsheet.typing import Floats, Labels

TAILS = (0.001, 0.999)
"""Quantiles to which the values of a column are clipped."""
SKEWNESS = 1.0
"""A column of larger skewness is transformed by log(1 + value)."""


def log_odds(p: Floats, smallest: float = 1e-12) -> Floats:
    """log(p / (1 - p)) of probabilities that are first clipped to [smallest, 1 - smallest].

    >>> log_odds(np.array([0.5, 0.0])).round(2).tolist()
    [0.0, -27.63]
    """
    clipped = np.clip(p, smallest, 1 - smallest)
    return np.asarray(np.log(clipped / (1 - clipped)))


def log_losses(y: Labels, p: Floats, smallest: float = 1e-15) -> Floats:
    """Log loss of each row in nats; likelihoods below ``smallest`` count as ``smallest``.

    >>> log_losses(np.array([1, 0], np.int8), np.array([0.5, 0.75])).round(3).tolist()
    [0.693, 1.386]
    """
    likelihood = np.where(y == 1, p, 1 - p)
    return np.asarray(-np.log(np.clip(likelihood, smallest, 1)))


def log_loss(y: Labels, p: Floats) -> float:
    """Mean of :func:`log_losses`; 0 without rows."""
    return float(log_losses(y, p).mean()) if len(y) else 0.0


@dataclass(frozen=True)
class TailTransform:
    """Clips a column to its tails and, if it is skewed and not negative, takes log(1 + value)."""

    low: float
    high: float
    log: bool

    @classmethod
    def fit(cls, values: Floats) -> Self:
        """Learn the transform from values (n,) without NaN, n at least 1."""
        low, high = np.quantile(values, TAILS)
        log = low >= 0 and skewness(np.clip(values, low, high)) > SKEWNESS
        return cls(float(low), float(high), bool(log))

    def __call__(self, values: Floats) -> Floats:
        """The transformed values; NaN stays NaN."""
        clipped = np.clip(values, self.low, self.high)
        return np.log1p(clipped) if self.log else clipped


def skewness(values: Floats) -> float:
    """Third standardised moment; 0 for a constant.

    >>> round(skewness(np.array([0.0, 0.0, 1.0])), 3)
    0.707
    """
    spread = values.std()
    return float(np.mean(((values - values.mean()) / spread) ** 3)) if spread > 0 else 0.0
