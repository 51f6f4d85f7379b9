"""A logistic GLM by maximum likelihood, with standard errors clustered by subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.models._newton import Chunk, Solution, logistic, minimise, sigmoid, with_ones
from flowsheet.models._row_matrix import Matrix, iterate_chunks
from flowsheet.typing import Bools, Floats, Ints, Labels

ALIASED_SHARE = 1e-9
"""A column is aliased if less than this share of its squares is left on the columns before it."""
RIDGE = 1e-2
"""Precision of the normal prior (standard deviation 10) that keeps a separable fit finite."""
Z95 = 1.959963984540054
"""The normal's 97.5% quantile."""


@dataclass(frozen=True)
class Glm:
    """A fit: the intercept first, then a coefficient for each column.

    Aliased columns have coefficient 0 and are not ``identified``. The covariance (of the identified
    coefficients) is the sandwich over subjects, A^-1 B A^-1 with A the Hessian and B the sum over
    subjects of the outer product of their summed scores (Liang and Zeger 1986), times
    G / (G - 1) * (n - 1) / (n - k) for G subjects, n rows and k coefficients, as in statsmodels and
    Stata. It is None with fewer than two subjects, and for separable data: their likelihood has no
    maximum, so that a standard error would describe the prior and not the data.
    """

    coef: Floats  # (D + 1,)
    identified: Bools  # (D + 1,)
    covariance: Floats | None  # (identified, identified)
    separable: bool

    def table(self, columns: list[str]) -> pl.DataFrame:
        """term, estimate, std_error, low, high (95% Wald), z; null where not identified."""
        n = len(self.coef)
        estimate = np.where(self.identified, self.coef, np.nan)
        error = np.full(n, np.nan)
        if self.covariance is not None:
            error[self.identified] = np.sqrt(np.diag(self.covariance))
        numbers = {
            "estimate": estimate,
            "std_error": error,
            "low": estimate - Z95 * error,
            "high": estimate + Z95 * error,
            "z": np.divide(estimate, error, out=np.full(n, np.nan), where=error > 0),
        }
        return pl.DataFrame({"term": ["intercept", *columns], **numbers}).with_columns(
            pl.exclude("term").fill_nan(None)
        )


def fit_glm(x: Matrix, y: Labels, subject: Ints) -> Glm:
    """Maximum likelihood; with the penalty ``RIDGE`` where there is no maximum (separable data).

    ``x`` has shape (n, D) without NaN, ``y`` both classes.
    """
    identified = independent_columns(x)
    columns = np.flatnonzero(identified[1:])

    def select(part: Chunk) -> Chunk:
        return part[:, columns]

    no_penalty = np.zeros(len(columns) + 1)
    solution = minimise(x, y, logistic, no_penalty, features=select)
    separable = _is_separable(solution, x, columns)
    if separable:
        penalty = np.append(0.0, np.full(len(columns), RIDGE))
        solution = minimise(x, y, logistic, penalty, features=select)
    coef = np.zeros(len(identified))
    coef[identified] = solution.coef
    covariance = None
    if not separable:
        covariance = _clustered_covariance(x, columns, y, subject, solution)
    return Glm(coef, identified, covariance, separable)


def independent_columns(x: Matrix) -> Bools:
    """Which of (ones, columns...) are linearly independent of those before them, shape (D + 1,)."""
    size = x.shape[1] + 1
    gram = np.zeros((size, size))
    for _, chunk in iterate_chunks(x):
        part = with_ones(chunk)
        gram += part.T @ part
    scale = np.sqrt(np.diag(gram))
    scale[scale == 0] = 1.0
    gram /= np.outer(scale, scale)
    independent = np.zeros(size, dtype=bool)
    for j in range(size):
        # gram holds the residuals of columns j, ... on the independent ones before j.
        independent[j] = gram[j, j] > ALIASED_SHARE
        if independent[j]:
            gram[j + 1 :, j + 1 :] -= np.outer(gram[j + 1 :, j], gram[j, j + 1 :] / gram[j, j])
    return independent


def _is_separable(solution: Solution, x: Matrix, columns: Ints) -> bool:
    """Whether some coefficient diverges: probabilities at 0 or 1, and hardly any curvature."""
    if solution.max_abs_eta < 15:
        return not solution.converged
    error = np.sqrt(np.maximum(np.diag(np.linalg.pinv(solution.hessian, hermitian=True)), 0))[1:]
    width = _measure_widths(x)[columns]
    return not solution.converged or bool((error * width > 100).any())


def _measure_widths(x: Matrix) -> Floats:
    """The largest less the smallest value of each column (D,)."""
    low, high = np.full(x.shape[1], np.inf), np.full(x.shape[1], -np.inf)
    for _, part in iterate_chunks(x):
        np.minimum(low, part.min(axis=0), out=low)
        np.maximum(high, part.max(axis=0), out=high)
    return np.asarray(high - low)


def _clustered_covariance(
    x: Matrix, columns: Ints, y: Labels, subject: Ints, solution: Solution
) -> Floats | None:
    """The sandwich of :class:`Glm` for some columns.

    Args:
        x: Columns (n, D).
        columns: Those that are identified.
        y: Labels (n,).
        subject: Subjects (n,).
        solution: The fit to the identified columns.
    """
    subjects, codes = np.unique(subject, return_inverse=True)
    groups, n, k = len(subjects), len(y), len(solution.coef)
    if groups < 2 or n <= k:
        return None
    scores = np.zeros((groups, k))
    for rows, chunk in iterate_chunks(x):
        part = with_ones(chunk[:, columns])
        np.add.at(scores, codes[rows], part * (y[rows] - sigmoid(part @ solution.coef))[:, None])
    bread = np.linalg.pinv(solution.hessian, hermitian=True)
    return bread @ (scores.T @ scores) @ bread * (groups / (groups - 1)) * ((n - 1) / (n - k))
