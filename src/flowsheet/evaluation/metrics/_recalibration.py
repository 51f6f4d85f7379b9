"""Logistic recalibration: observed outcomes regressed on the log odds of the predictions.

logit P(y = 1) = intercept + slope * logit(p) (Cox 1958). In resamples one Newton step is taken from
the fit to all rows (the one-step bootstrap; Davidson and MacKinnon 1999), which needs sums by
subject only. The models' solver (``flowsheet.models._newton``) is no substitute: it cannot take
that step for all resamples at once, and its sums by BLAS depend on the number of threads in the
last bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flowsheet.evaluation.metrics.base import Sample, ScoredRows
from flowsheet.numerics import log_odds
from flowsheet.typing import Floats

MAX_ITERATIONS = 50
MAX_COEFFICIENT = 1e3
"""A larger coefficient means that the fit diverges."""
TOLERANCE = 1e-10


def slope(sample: Sample) -> Floats:
    """The slope with a free intercept; NaN without a solution (equal probabilities, separation)."""
    scored = sample.scored
    step = scored.cached(
        "recalibration slope",
        lambda: _fit(scored, _design_matrix(scored.p), np.zeros(len(scored.y))),
    )
    return np.asarray(step.take(sample)[1])


def intercept(sample: Sample) -> Floats:
    """The intercept with the slope fixed at 1: calibration in the large, in log odds."""
    scored = sample.scored
    step = scored.cached(
        "recalibration intercept",
        lambda: _fit(scored, np.ones((1, len(scored.y))), log_odds(scored.p)),
    )
    return np.asarray(step.take(sample)[0])


def _design_matrix(p: Floats) -> Floats:
    """An intercept and the log odds, shape (2, N)."""
    return np.stack([np.ones(len(p)), log_odds(p)])


@dataclass(frozen=True)
class _NewtonStep:
    """A step from the coefficients (K,), by its sums over the rows of each subject."""

    coefficients: Floats
    gradient: Floats  # (K, S)
    hessian: Floats  # (K, K, S)

    @classmethod
    def make(
        cls, scored: ScoredRows, design: Floats, offset: Floats, coefficients: Floats
    ) -> _NewtonStep:
        """The step from some coefficients; ``design`` has shape (K, N), ``offset`` (N,)."""
        linear = np.clip(coefficients @ design + offset, -500, 500)
        expected = 1 / (1 + np.exp(-linear))
        variance = expected * (1 - expected)
        residual = scored.y - expected
        gradient = [scored.sum_by_subject(row * residual) for row in design]
        hessian = [[scored.sum_by_subject(a * b * variance) for a in design] for b in design]
        return cls(coefficients, np.stack(gradient), np.array(hessian))

    def take(self, sample: Sample) -> Floats:
        """The coefficients after the step in each of B samples, shape (K, B)."""
        # einsum instead of BLAS: the same bits on any number of threads
        gradient = np.einsum("ks,sb->bk", self.gradient, sample.weights)
        hessian = np.einsum("kls,sb->bkl", self.hessian, sample.weights)
        return self.coefficients[:, None] + _solve(hessian, gradient).T


def _fit(scored: ScoredRows, design: Floats, offset: Floats) -> _NewtonStep:
    """The step from Newton's solution for all rows; NaN where it does not converge."""
    all_rows, coefficients = Sample(scored), np.zeros(len(design))
    for _ in range(MAX_ITERATIONS):
        step = _NewtonStep.make(scored, design, offset, coefficients)
        updated = step.take(all_rows)[:, 0]
        if not np.isfinite(updated).all() or np.abs(updated).max() > MAX_COEFFICIENT:
            break
        if np.abs(updated - coefficients).max() < TOLERANCE:
            return _NewtonStep.make(scored, design, offset, updated)
        coefficients = updated
    return replace(step, coefficients=np.full(len(design), np.nan))


def _solve(hessian: Floats, gradient: Floats) -> Floats:
    """Solve B small systems; NaN where one is singular."""
    scale = np.einsum("bii->b", hessian) ** hessian.shape[1]
    is_regular = np.isfinite(scale)
    determinant = np.abs(np.linalg.det(hessian[is_regular]))
    is_regular[is_regular] = determinant > 1e-12 * scale[is_regular]
    solution = np.full_like(gradient, np.nan)
    right_hand_side = gradient[is_regular][..., None]
    solution[is_regular] = np.linalg.solve(hessian[is_regular], right_hand_side)[..., 0]
    return solution
