"""A distribution as a few quantiles: enough to test for drift, too few to identify a patient."""

from __future__ import annotations

import numpy as np

from flowsheet.config import FrozenModel
from flowsheet.typing import AnyArray, Floats

MAX_QUANTILES = 256
"""Upper limit; with fewer values, one quantile for each ``VALUES_PER_QUANTILE`` of them."""
VALUES_PER_QUANTILE = 5


class QuantileSketch(FrozenModel):
    """n values as K quantiles at the levels (i + 1/2) / K.

    Neither the smallest nor the largest value is among them.
    """

    n: int
    effective_n: float
    """Effective sample size (Kish 1965): the stays of one patient count as one."""
    mean: float
    sd: float
    quantiles: tuple[float, ...]

    @classmethod
    def from_values(cls, values: AnyArray, subjects: AnyArray) -> QuantileSketch:
        """The sketch of ``values`` (n,), which belong to these ``subjects`` (n,).

        >>> import numpy as np
        >>> QuantileSketch.from_values(np.arange(20.0), np.arange(20)).quantiles
        (2.0, 7.0, 12.0, 17.0)
        """
        ordered = np.sort(values.astype(np.float64))
        n = len(ordered)
        k = min(MAX_QUANTILES, n // VALUES_PER_QUANTILE)
        # ranks of the levels (i + 1/2) / K, in integers: no rounding
        ranks = ((2 * np.arange(k) + 1) * n + 2 * k - 1) // max(1, 2 * k) - 1
        return cls(
            n=n,
            effective_n=effective_sample_size(subjects),
            mean=float(ordered.mean()) if n else 0.0,
            sd=float(ordered.std()) if n else 0.0,
            quantiles=tuple(ordered[ranks].tolist()),
        )

    @property
    def values(self) -> Floats:
        """The quantiles (K,)."""
        return np.array(self.quantiles, np.float64)

    @property
    def resolution(self) -> float:
        """Upper bound of the error of the sketch's distribution function: 1 / 2K."""
        return 0.5 / len(self.quantiles) if self.quantiles else 1.0

    def ks_statistic(self, values: Floats) -> float:
        """Lower bound of the Kolmogorov-Smirnov statistic against ``values`` (m,).

        It is the sketch's statistic less its resolution.

        >>> import numpy as np
        >>> reference = QuantileSketch.from_values(np.arange(1000.0), np.arange(1000))
        >>> reference.ks_statistic(np.arange(1000.0))
        0.0
        >>> round(reference.ks_statistic(np.arange(1000.0) + 500), 2)
        0.5
        """
        return max(0.0, ks_statistic(self.values, values) - self.resolution)

    def population_stability_index(self, values: Floats) -> float:
        """Population stability index of ``values`` (m,) over the sketch's deciles.

        Values above 0.1 are usually called a shift, above 0.25 a large one.
        """
        edges = np.unique(np.quantile(self.values, np.arange(1, 10) / 10))
        reference = _bin_shares(self.values, edges)
        current = _bin_shares(values, edges)
        return float(((current - reference) * np.log(current / reference)).sum())


def effective_sample_size(subjects: AnyArray) -> float:
    """Kish's effective sample size of values with these ``subjects`` (n,).

    With m values of a subject it is (sum of m)^2 / (sum of m^2).

    >>> import numpy as np
    >>> effective_sample_size(np.array([1, 2, 3])), effective_sample_size(np.array([1, 1, 1]))
    (3.0, 1.0)
    """
    counts = np.unique(subjects, return_counts=True)[1].astype(np.float64)
    return float(counts.sum() ** 2 / (counts**2).sum()) if len(counts) else 0.0


def ks_statistic(first: Floats, second: Floats) -> float:
    """Two-sample Kolmogorov-Smirnov statistic of ``first`` (n,) and ``second`` (m,)."""
    first, second = np.sort(first), np.sort(second)
    points = np.concatenate([first, second])
    first_cdf = np.searchsorted(first, points, side="right") / len(first)
    second_cdf = np.searchsorted(second, points, side="right") / len(second)
    return float(np.abs(first_cdf - second_cdf).max())


def ks_p_value(statistic: float, n: float, m: float) -> float:
    """P value of a two-sample Kolmogorov-Smirnov statistic, samples of n and m independent values.

    Kolmogorov's limit (Smirnov 1948); conservative for small samples and for values with ties.
    """
    from scipy.special import kolmogorov

    return float(kolmogorov(statistic * np.sqrt(n * m / (n + m))))


def _bin_shares(values: Floats, edges: Floats) -> Floats:
    """Share of the values in each bin; half a value is added to each, so that none is empty."""
    bins = np.searchsorted(edges, values, side="left")
    counts = np.bincount(bins, minlength=len(edges) + 1) + 0.5
    return np.asarray(counts / counts.sum(), np.float64)
