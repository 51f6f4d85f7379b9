"""A distribution in a few quantiles: enough to compare with, too little to know anybody by."""

from __future__ import annotations

import numpy as np

from flowsheet.config import FrozenModel
from flowsheet.typing import AnyArray, Floats

QUANTILES = 256
"""The most that are kept; with fewer values, one for each ``VALUES_PER_QUANTILE``."""
VALUES_PER_QUANTILE = 5


class Sketch(FrozenModel):
    """n values as K quantiles at the levels (i + 1/2) / K; neither the smallest nor the largest value is among them."""

    n: int
    effective: float
    """How many independent values they are worth (Kish 1965): stays of one patient count as one."""
    mean: float
    sd: float
    quantiles: tuple[float, ...]

    @classmethod
    def of(cls, values: AnyArray, subjects: AnyArray) -> Sketch:
        """The sketch of ``values`` (n,) of these ``subjects`` (n,).

        >>> import numpy as np
        >>> Sketch.of(np.arange(20.0), np.arange(20)).quantiles
        (2.0, 7.0, 12.0, 17.0)
        """
        kept = np.sort(values.astype(np.float64))
        k = min(QUANTILES, len(kept) // VALUES_PER_QUANTILE)
        held = kept[
            ((2 * np.arange(k) + 1) * len(kept) + 2 * k - 1) // max(1, 2 * k) - 1
        ]  # whole numbers: no rounding
        return cls(
            n=len(kept),
            effective=effective(subjects),
            mean=float(kept.mean()) if len(kept) else 0.0,
            sd=float(kept.std()) if len(kept) else 0.0,
            quantiles=tuple(held.tolist()),
        )

    @property
    def values(self) -> Floats:
        """The quantiles (K,)."""
        return np.array(self.quantiles, np.float64)

    @property
    def resolution(self) -> float:
        """How far the distribution function of the quantiles is from the values' own, at most: 1 / 2K."""
        return 0.5 / len(self.quantiles) if self.quantiles else 1.0

    def distance(self, values: Floats) -> float:
        """The Kolmogorov-Smirnov distance from ``values`` (m,), less what the sketch leaves open: a
        lower bound of it.

        >>> import numpy as np
        >>> known = Sketch.of(np.arange(1000.0), np.arange(1000))
        >>> known.distance(np.arange(1000.0)), round(known.distance(np.arange(1000.0) + 500), 2)
        (0.0, 0.5)
        """
        return max(0.0, ks_statistic(self.values, values) - self.resolution)

    def stability_index(self, values: Floats) -> float:
        """The population stability index over tenths of the sketch: 0.1 is usually called a shift, 0.25 a large one."""
        edges = np.unique(np.quantile(self.values, np.arange(1, 10) / 10))
        before, now = (_shares(v, edges) for v in (self.values, values))
        return float(((now - before) * np.log(now / before)).sum())


def effective(subjects: AnyArray) -> float:
    """(sum of m)^2 / (sum of m^2) for m values a subject: the number of independent values, were
    each subject's equal.

    >>> import numpy as np
    >>> effective(np.array([1, 2, 3])), effective(np.array([1, 1, 1]))
    (3.0, 1.0)
    """
    each = np.unique(subjects, return_counts=True)[1].astype(np.float64)
    return float(each.sum() ** 2 / (each**2).sum()) if len(each) else 0.0


def ks_statistic(one: Floats, other: Floats) -> float:
    """The largest distance between the distribution functions of two samples."""
    one, other = np.sort(one), np.sort(other)
    where = np.concatenate([one, other])
    first = np.searchsorted(one, where, side="right") / len(one)
    second = np.searchsorted(other, where, side="right") / len(other)
    return float(np.abs(first - second).max())


def kolmogorov(distance: float, n: float, m: float) -> float:
    """How often two samples of one distribution, of n and m independent values, are at least this
    far apart.

    Kolmogorov's limit (Smirnov 1948); it errs on the safe side for small samples and for values
    with ties.
    """
    from scipy.special import kolmogorov as tail

    return float(tail(distance * np.sqrt(n * m / (n + m))))


def _shares(values: Floats, edges: Floats) -> Floats:
    """The share of the values in each bin, none of them quite empty."""
    counts = (
        np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1) + 0.5
    )
    return np.asarray(counts / counts.sum(), np.float64)
