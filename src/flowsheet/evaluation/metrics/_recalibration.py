"""The logistic line through the log odds: how far a model's probabilities are from the observed
ones.

logit P(y = 1) = intercept + slope * logit(p) (Cox 1958). In resamples one Newton step is taken from
the fit to all rows (the one-step bootstrap; Davidson and MacKinnon 1999), which needs sums by
subject only. The models' solver (``flowsheet.models._newton``) is no substitute: it cannot take that
step for all resamples at once, and its sums by BLAS depend on the number of threads in the last bit.
"""

from __future__ import annotations

import numpy as np

from flowsheet.evaluation.metrics.base import Sample, ScoredRows
from flowsheet.numerics import log_odds
from flowsheet.typing import Floats

STEPS = 50


def slope(sample: Sample) -> Floats:
    """The slope, with a free intercept; NaN where it cannot be told (equal probabilities, separation)."""
    scored = sample.scored
    design = scored.cached("recalibration design", lambda: _design(scored.p))
    start = scored.cached(
        "recalibration slope", lambda: _fit(scored, design, np.zeros(len(scored.y)))
    )
    return np.asarray(_step(sample, design, np.zeros(len(scored.y)), start)[1])


def intercept(sample: Sample) -> Floats:
    """The intercept with the slope held at 1: calibration in the large, in log odds."""
    scored = sample.scored
    design, offset = np.ones((1, len(scored.y))), log_odds(scored.p)
    start = scored.cached("recalibration intercept", lambda: _fit(scored, design, offset))
    return np.asarray(_step(sample, design, offset, start)[0])


def _design(p: Floats) -> Floats:
    return np.stack([np.ones(len(p)), log_odds(p)])


def _fit(scored: ScoredRows, design: Floats, offset: Floats) -> Floats:
    """Newton's method on the rows as seen; NaN when it does not settle. ``design`` is (K, N)."""
    everything, at = Sample(scored), np.zeros(len(design))
    for _ in range(STEPS):
        new = _step(everything, design, offset, at)[:, 0]
        if not np.isfinite(new).all() or np.abs(new).max() > 1e3:
            break
        if np.abs(new - at).max() < 1e-10:
            return new
        at = new
    return np.full(len(design), np.nan)


def _step(sample: Sample, design: Floats, offset: Floats, at: Floats) -> Floats:
    """One Newton step from ``at`` (K,) in each of B samples, shape (K, B)."""
    expected = 1 / (1 + np.exp(-np.clip(at @ design + offset, -500, 500)))
    spread = expected * (1 - expected)
    gradient = np.stack([sample.total(row * (sample.scored.y - expected)) for row in design])
    size = len(design)
    hessian = np.empty((gradient.shape[1], size, size))
    for i, j in np.ndindex(size, size):
        hessian[:, i, j] = sample.total(design[i] * design[j] * spread)
    return at[:, None] + _solve(hessian, gradient.T).T


def _solve(hessian: Floats, gradient: Floats) -> Floats:
    """Solve B small systems; NaN where one is singular."""
    scale = np.einsum("bii->b", hessian) ** hessian.shape[1]
    good = np.isfinite(scale)
    good[good] = np.abs(np.linalg.det(hessian[good])) > 1e-12 * scale[good]
    solved = np.full_like(gradient, np.nan)
    solved[good] = np.linalg.solve(hessian[good], gradient[good][..., None])[..., 0]
    return solved
