"""Scores to probabilities by a logistic curve (Platt 1999)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from flowsheet.models._newton import logistic, minimise, sigmoid
from flowsheet.typing import Floats, Labels


@dataclass(frozen=True)
class Platt:
    """P(y = 1) = 1 / (1 + exp(-(intercept + slope score)))."""

    intercept: float
    slope: float

    @classmethod
    def fit(cls, *parts: tuple[Floats, Labels]) -> Self:
        """Fit to the first of the (scores, y) with both classes and a positive slope.

        The targets are Platt's, (N+ + 1) / (N+ + 2) and 1 / (N- + 2), which keep the curve of
        separated scores finite.
        """
        for scores, y in parts:
            events = int(y.sum())
            if 0 < events < len(y):
                target = np.where(y == 1, (events + 1) / (events + 2), 1 / (len(y) - events + 2))
                scale = float(np.abs(scores).max()) or 1.0
                coef = minimise((scores / scale)[:, None], target, logistic, np.zeros(2)).coef
                if coef[1] > 0:
                    return cls(float(coef[0]), float(coef[1] / scale))
        return cls(0.0, 1.0)

    def __call__(self, scores: Floats) -> Floats:
        """Probabilities, shape (n,)."""
        return sigmoid(self.intercept + self.slope * scores)

    def state(self) -> dict[str, Any]:
        """As JSON."""
        return {"intercept": self.intercept, "slope": self.slope}
