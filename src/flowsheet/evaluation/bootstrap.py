"""Uncertainty of metrics: bootstrap over subjects, with the same resamples for every model.

A resample draws as many subjects as there are, with replacement, and keeps the rows of a subject
together (a cluster bootstrap; Davison and Hinkley 1997, section 3.8). It is represented by how
often each subject is drawn, so that a resample costs a weighted sum and no row is copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from flowsheet.evaluation.metrics.base import Metric, Sample, ScoredRows
from flowsheet.typing import Floats

Key = TypeVar("Key")

MAX_BATCH_RESAMPLES = 128
MAX_BATCH_CELLS = 16_000_000
"""Subjects x resamples that are drawn at a time: a batch takes half a gigabyte at most."""
MAX_PART_CELLS = 500_000
"""Thresholds x resamples that are counted at a time: they stay in a processor's cache."""
MIN_DEFINED_SHARE = 0.95
"""An interval is given where the metric is defined in at least this share of the resamples."""
ERROR_INFLATION = 1.05
"""Standard errors of differences are inflated by a twentieth. Of 1,000 simulated comparisons of two
equal models over 200 subjects, 5.5 to 5.8% are significant at 5% with the bootstrap's own standard
error, depending on the metric, and 4.1 to 4.8% with the inflated one. The coverage of a 95%
interval of a difference is then about 96%."""


class ResamplePart(NamedTuple):
    """Consecutive batches of resamples: all parts one after the other are all resamples."""

    number: int = 0
    of: int = 1

    def select(self, n_batches: int) -> range:
        """The numbers of the part's batches."""
        bounds = [n_batches * number // self.of for number in (self.number, self.number + 1)]
        return range(*bounds)


ALL_RESAMPLES = ResamplePart()


def resample_weights(
    n_subjects: int,
    resamples: int,
    seed: int,
    part: ResamplePart = ALL_RESAMPLES,
) -> Iterator[Floats]:
    """How often each subject is drawn, in batches of b resamples.

    Args:
        n_subjects: S, the number of subjects.
        resamples: the number of resamples over all batches.
        seed: of the random draws, which depend on it and on S only.
        part: the batches that are wanted; earlier ones are drawn as well, but not counted.

    Yields:
        Weights of shape (S, b).
    """
    rng = np.random.default_rng(seed)
    batch_size = min(MAX_BATCH_RESAMPLES, max(1, MAX_BATCH_CELLS // max(n_subjects, 1)))
    wanted = part.select(math.ceil(resamples / batch_size))
    for batch in range(wanted.stop):
        count = min(batch_size, resamples - batch * batch_size)
        drawn = rng.integers(0, n_subjects, (count, n_subjects))
        if batch not in wanted:
            continue
        cell = drawn + n_subjects * np.arange(count)[:, None]
        times = np.bincount(cell.ravel(), minlength=count * n_subjects)
        yield np.ascontiguousarray(times.reshape(count, n_subjects).T, dtype=np.float64)


def bootstrap(
    scored: Mapping[Key, ScoredRows],
    metrics: Sequence[Metric],
    resamples: int,
    seed: int,
    part: ResamplePart = ALL_RESAMPLES,
) -> dict[tuple[Key, str], Floats]:
    """Every metric of every entry in every resample.

    Metrics that are not applicable to an entry, and entries that are not estimable, are left out.

    Args:
        scored: rows by key; all entries number the same subjects in the same way.
        metrics: the metrics; those without an interval are left out.
        resamples: B, the number of resamples.
        seed: of the resamples.
        part: the resamples that are wanted.

    Returns:
        The values in the resamples, shape (B,) or those of the part, by (key, name of the metric).
    """
    metrics_by_key = {
        key: [metric for metric in metrics if metric.has_interval and metric.is_applicable(rows)]
        for key, rows in scored.items()
        if not rows.reason_not_estimable
    }
    if not metrics_by_key or not resamples:
        return {}
    n_subjects = next(iter(scored.values())).n_subjects
    batches: dict[tuple[Key, str], list[Floats]] = {
        (key, metric.name): []
        for key, applicable in metrics_by_key.items()
        for metric in applicable
    }
    for weights in resample_weights(n_subjects, resamples, seed, part):
        for key, applicable in metrics_by_key.items():
            for sample in _divide(scored[key], weights):
                for metric in applicable:
                    batches[key, metric.name].append(metric.compute_once(sample))
    return {key: join_batches(values) for key, values in batches.items()}


def _divide(scored: ScoredRows, weights: Floats) -> Iterator[Sample]:
    """Samples of as many resamples as are counted at a time; rows with the event are thresholds."""
    width = max(1, MAX_PART_CELLS // max(1, scored.n_events))
    for begin in range(0, weights.shape[1], width):
        yield Sample(scored, np.ascontiguousarray(weights[:, begin : begin + width]))


def join_batches(batches: Sequence[Floats]) -> Floats:
    """The values of consecutive batches; a part may have none."""
    return np.concatenate([np.zeros(0), *batches])


def percentile_interval(values: Floats | None, confidence: float) -> tuple[float, float]:
    """The bootstrap's percentile interval; NaN where too few resamples are defined."""
    if values is None or not _is_mostly_defined(values):
        return math.nan, math.nan
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """A metric of one model minus that of another on the same rows."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided p-value of no difference; NaN: not estimable."""


def estimate_difference(
    value: float, draws: Floats | None, n_subjects: int, confidence: float
) -> Difference:
    """Interval and test of a difference, from its resampled values.

    Student's interval and test with the bootstrap's standard error, inflated by
    ``ERROR_INFLATION``, and S - 1 degrees of freedom. Unlike a percentile, its p-value has no
    smallest step, which a correction for many comparisons would need thousands of resamples to
    overcome; and with a few hundred subjects its level is closer to the nominal one.

    Args:
        value: the difference on the rows themselves.
        draws: the difference in each resample, shape (B,); None: not estimable.
        n_subjects: S, the number of subjects with rows.
        confidence: of the interval, e.g. 0.95.
    """
    if draws is None or n_subjects < 2 or not _is_mostly_defined(draws):
        return Difference(value, math.nan, math.nan, math.nan)
    spread = ERROR_INFLATION * float(np.nanstd(draws, ddof=1))
    error = spread * math.sqrt(n_subjects / (n_subjects - 1))
    return t_interval(value, error, n_subjects - 1, confidence)


def t_interval(
    value: float, error: float, degrees_of_freedom: int, confidence: float
) -> Difference:
    """Student's interval and two-sided test against 0.

    Args:
        value: the estimate.
        error: its standard error.
        degrees_of_freedom: of Student's t distribution.
        confidence: of the interval, e.g. 0.95.
    """
    from scipy.special import stdtr, stdtrit

    margin = float(stdtrit(degrees_of_freedom, 1 - (1 - confidence) / 2)) * error
    t_without_error = math.inf if value else 0.0
    t = abs(value) / error if error > 0 else t_without_error
    p = 2 * float(stdtr(degrees_of_freedom, -t))
    return Difference(value, value - margin, value + margin, p)


def holm_adjust(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979) of p-values; NaN stays NaN and is not counted.

    >>> holm_adjust([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [math.nan] * len(p)
    known = [i for i, value in enumerate(p) if not math.isnan(value)]
    order = sorted(known, key=lambda i: p[i])
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, p[i] * (len(order) - rank)))
        adjusted[i] = highest
    return adjusted


def _is_mostly_defined(values: Floats) -> bool:
    return len(values) > 1 and float(np.isfinite(values).mean()) >= MIN_DEFINED_SHARE
