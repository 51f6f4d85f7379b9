"""Newton's method for linear models, in float64 and in chunks of rows, so that 500,000 rows fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from flowsheet.typing import Floats, Floats32, Labels

Table = Floats32 | Floats
Loss = Callable[[Floats, Floats], tuple[Floats, Floats, Floats]]
"""(y, eta) -> loss, its first and its second derivative by eta, of each row."""
Map = Callable[[Table], Table]
"""Columns of a chunk of rows -> the columns that are fitted."""

_CHUNK_ROWS = 32_768
_HALVINGS = 30


@dataclass(frozen=True)
class Solution:
    """Where Newton's method ended."""

    coef: Floats  # (D + 1,) the intercept first
    hessian: Floats  # (D + 1, D + 1) of the summed loss, penalty included
    loss: float
    converged: bool
    largest: float  # the largest |eta| of any row


def identity(x: Table) -> Table:
    """The columns as they are."""
    return x


def sigmoid(eta: Floats) -> Floats:
    """1 / (1 + exp(-eta)), without overflow."""
    small = np.exp(-np.abs(eta))
    return np.where(eta >= 0, 1.0, small) / (1.0 + small)


def logistic(y: Floats, eta: Floats) -> tuple[Floats, Floats, Floats]:
    """Log loss of y in {0, 1}."""
    p = sigmoid(eta)
    return np.logaddexp(0.0, eta) - y * eta, p - y, p * (1.0 - p)


def squared_hinge(y: Floats, eta: Floats) -> tuple[Floats, Floats, Floats]:
    """max(0, 1 - s eta)^2 / 2 with s = 2 y - 1: zero beyond the margin."""
    sign = 2.0 * y - 1.0
    short = np.maximum(0.0, 1.0 - sign * eta)
    return short * short / 2.0, -sign * short, (short > 0).astype(np.float64)


def with_ones(x: Table) -> Floats:
    """The columns in float64 behind a column of ones."""
    return np.concatenate([np.ones((len(x), 1)), x], axis=1)


def chunks(n: int) -> Iterator[slice]:
    """Slices that cover n rows."""
    return (slice(i, i + _CHUNK_ROWS) for i in range(0, n, _CHUNK_ROWS))


def predictor(x: Table, coef: Floats, features: Map = identity) -> Floats:
    """Linear predictor of each row, shape (n,); a row's bits do not depend on the rows beside it."""
    parts = [np.einsum("ij,j->i", with_ones(features(x[rows])), coef) for rows in chunks(len(x))]
    return np.concatenate(parts) if parts else np.empty(0)


def minimise(
    x: Table,
    y: Labels | Floats,
    loss: Loss,
    penalty: Floats,
    *,
    weights: Floats | None = None,
    features: Map = identity,
) -> Solution:
    """Minimise sum_i weights_i loss(y_i, b_0 + x_i b) + sum_j penalty_j b_j^2 / 2 by damped Newton
    steps.

    ``penalty`` has a place for the intercept, first. Stops when the Newton decrement says that the
    loss is within 1e-12 (relative) of its minimum, and says so in ``converged`` when it does not
    get there.
    """
    total = _Total(x, y, loss, penalty, weights, features)
    coef = np.zeros(len(penalty))
    value, gradient, hessian, largest = total(coef)
    for _ in range(60):
        step = np.linalg.lstsq(hessian, gradient, rcond=1e-15)[0]
        decrement = float(gradient @ step)
        for halving in range(_HALVINGS):
            new = total(coef - step * 0.5**halving)
            if new[0] <= value + 1e-12 * abs(value):
                break
        else:
            return Solution(coef, hessian, value, False, largest)
        coef = coef - step * 0.5**halving
        value, gradient, hessian, largest = new
        if decrement < 1e-12 * max(abs(value), 1e-6):
            return Solution(coef, hessian, value, True, largest)
    return Solution(coef, hessian, value, False, largest)


@dataclass(frozen=True)
class _Total:
    x: Table
    y: Labels | Floats
    loss: Loss
    penalty: Floats
    weights: Floats | None
    features: Map

    def __call__(self, coef: Floats) -> tuple[float, Floats, Floats, float]:
        """Value, gradient and Hessian of the whole at ``coef``, and the largest |eta|."""
        value = float(self.penalty @ (coef * coef)) / 2.0
        gradient, hessian, largest = self.penalty * coef, np.diag(self.penalty), 0.0
        for rows in chunks(len(self.x)):
            x = with_ones(self.features(self.x[rows]))
            eta = x @ coef
            losses, first, second = self.loss(self.y[rows].astype(np.float64), eta)
            if self.weights is not None:
                losses, first, second = (
                    part * self.weights[rows] for part in (losses, first, second)
                )
            value += float(losses.sum())
            gradient = gradient + first @ x
            hessian = hessian + (x * second[:, None]).T @ x
            largest = max(largest, float(np.abs(eta).max()))
        return value, gradient, hessian, largest
