"""Logistic recalibration: observed outcomes regressed on the log odds of the predictions.

logit P(y = 1) = intercept + slope * logit(p) (Cox 1958). In resamples one Newton step is taken from
the fit to all rows (the one-step bootstrap; Davidson and MacKinnon 1999), which needs sums by
subject only. The models' solver (``flowsheet.models._newton``) is no substitute: it cannot take
that step for all resamples at once, and its sums by BLAS depend on the number of threads in the
last bit.
"""

from __future__ import annotations

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
    design = scored.cached("recalibration design", lambda: _design_matrix(scored.p))
    offset = np.zeros(len(scored.y))
    fitted = scored.cached("recalibration slope", lambda: _fit(scored, design, offset))
    return np.asarray(_newton_step(sample, design, offset, fitted)[1])


def intercept(sample: Sample) -> Floats:
    """The intercept with the slope fixed at 1: calibration in the large, in log odds."""
    scored = sample.scored
    design, offset = np.ones((1, len(scored.y))), log_odds(scored.p)
    fitted = scored.cached("recalibration intercept", lambda: _fit(scored, design, offset))
    return np.asarray(_newton_step(sample, design, offset, fitted)[0])


def _design_matrix(p: Floats) -> Floats:
    """An intercept and the log odds, shape (2, N)."""
    return np.stack([np.ones(len(p)), log_odds(p)])


def _fit(scored: ScoredRows, design: Floats, offset: Floats) -> Floats:
    """Newton's method on all rows, ``design`` of shape (K, N); NaN where it does not converge."""
    all_rows, coefficients = Sample(scored), np.zeros(len(design))
    for _ in range(MAX_ITERATIONS):
        updated = _newton_step(all_rows, design, offset, coefficients)[:, 0]
        if not np.isfinite(updated).all() or np.abs(updated).max() > MAX_COEFFICIENT:
            break
        if np.abs(updated - coefficients).max() < TOLERANCE:
            return updated
        coefficients = updated
    return np.full(len(design), np.nan)


def _newton_step(sample: Sample, design: Floats, offset: Floats, coefficients: Floats) -> Floats:
    """One Newton step from ``coefficients`` (K,) in each of B samples, shape (K, B)."""
    linear = np.clip(coefficients @ design + offset, -500, 500)
    expected = 1 / (1 + np.exp(-linear))
    variance = expected * (1 - expected)
    residual = sample.scored.y - expected
    gradient = np.stack([sample.weighted_sum(row * residual) for row in design])
    size = len(design)
    hessian = np.empty((gradient.shape[1], size, size))
    for i, j in np.ndindex(size, size):
        hessian[:, i, j] = sample.weighted_sum(design[i] * design[j] * variance)
    return coefficients[:, None] + _solve(hessian, gradient.T).T


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
