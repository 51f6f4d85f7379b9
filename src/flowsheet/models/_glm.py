"""A logistic generalised linear model by maximum likelihood, with standard errors clustered by subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.models._newton import Solution, Table, chunks, logistic, minimise, sigmoid, with_ones
from flowsheet.typing import Bools, Floats, Ints, Labels

ALIASED = 1e-9
"""A column whose squared residual on the columns before it is below this share of its squares adds nothing."""
RIDGE = 1e-2
"""Precision of the normal prior (standard deviation 10) that keeps a separable fit finite."""
Z95 = 1.959963984540054
"""The normal's 97.5% quantile."""


@dataclass(frozen=True)
class Glm:
    """A fit: the intercept first, then one place for each column.

    Aliased columns have coefficient 0 and are not ``kept``. The covariance (of the kept ones) is
    the sandwich over subjects, A^-1 B A^-1 with A the Hessian and B the sum over subjects of the
    outer product of their summed scores (Liang and Zeger 1986), times G / (G - 1) * (n - 1) / (n -
    k) for G subjects, n rows and k coefficients, as statsmodels and Stata have it. None with fewer
    than two subjects, and for separable data: where the likelihood has no maximum, an error around
    the prior's would only look exact.
    """

    coef: Floats  # (D + 1,)
    kept: Bools  # (D + 1,)
    covariance: Floats | None  # (kept, kept)
    separable: bool

    def table(self, columns: list[str]) -> pl.DataFrame:
        """(term, estimate, std_error, low, high, z): 95% Wald intervals; null where not identified."""
        n = len(self.coef)
        estimate, error = np.full(n, np.nan), np.full(n, np.nan)
        estimate[self.kept] = self.coef[self.kept]
        if self.covariance is not None:
            error[self.kept] = np.sqrt(np.diag(self.covariance))
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


def fit_glm(x: Table, y: Labels, subject: Ints) -> Glm:
    """Maximum likelihood; where it does not exist (separable data), with the penalty ``RIDGE`` and
    saying so.

    ``x`` has shape (n, D) without NaN, ``y`` both classes.
    """
    kept = independent(x)
    columns = np.flatnonzero(kept[1:])

    def chosen(part: Table) -> Table:
        return part[:, columns]

    none = np.zeros(len(columns) + 1)
    solution = minimise(x, y, logistic, none, features=chosen)
    separable = _is_separable(solution, x, columns)
    if separable:
        penalty = np.append(0.0, np.full(len(columns), RIDGE))
        solution = minimise(x, y, logistic, penalty, features=chosen)
    coef = np.zeros(len(kept))
    coef[kept] = solution.coef
    covariance = None if separable else _clustered(x[:, columns], y, subject, solution)
    return Glm(coef, kept, covariance, separable)


def independent(x: Table) -> Bools:
    """Which of (ones, columns...) add something to those before them, shape (D + 1,); the ones always do."""
    size = x.shape[1] + 1
    gram = np.zeros((size, size))
    for rows in chunks(len(x)):
        part = with_ones(x[rows])
        gram += part.T @ part
    scale = np.sqrt(np.diag(gram))
    scale[scale == 0] = 1.0
    gram /= np.outer(scale, scale)
    kept = np.zeros(size, dtype=bool)
    for j in range(
        size
    ):  # what is left of the later columns once those before them are taken out of them
        kept[j] = gram[j, j] > ALIASED
        if kept[j]:
            gram[j + 1 :, j + 1 :] -= np.outer(gram[j + 1 :, j], gram[j, j + 1 :] / gram[j, j])
    return kept


def _is_separable(solution: Solution, x: Table, columns: Ints) -> bool:
    """Whether some coefficient runs away: fitted probabilities at 0 or 1, and a curvature that is nearly none."""
    if solution.largest < 15:
        return not solution.converged
    error = np.sqrt(np.maximum(np.diag(np.linalg.pinv(solution.hessian, hermitian=True)), 0))[1:]
    width = np.ptp(x[:, columns], axis=0)
    return not solution.converged or bool((error * width > 100).any())


def _clustered(x: Table, y: Labels, subject: Ints, solution: Solution) -> Floats | None:
    """The sandwich of :class:`Glm`."""
    names, codes = np.unique(subject, return_inverse=True)
    groups, n, k = len(names), len(y), len(solution.coef)
    if groups < 2 or n <= k:
        return None
    scores = np.zeros((groups, k))
    for rows in chunks(n):
        part = with_ones(x[rows])
        np.add.at(scores, codes[rows], part * (y[rows] - sigmoid(part @ solution.coef))[:, None])
    bread = np.linalg.pinv(solution.hessian, hermitian=True)
    return bread @ (scores.T @ scores) @ bread * (groups / (groups - 1)) * ((n - 1) / (n - k))
