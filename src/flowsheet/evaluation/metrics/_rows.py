"""Scored rows with their weights, and weighted resamples of their subjects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from flowsheet.evaluation.metrics._ranking import Ranking, ThresholdCounts
from flowsheet.typing import AnyArray, Bools, Floats, Ints, Labels

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """The labels of N scored rows of S subjects, and one model's predictions; in any order."""

    y: Labels  # (N,) 0 or 1
    p: Floats  # (N,) predicted probabilities of y = 1
    subject: Ints  # (N,) position of the row's subject, 0..S-1
    stay: Ints  # (N,) position of the row's stay, counted from 0
    step: Ints  # (N,) k, counted from 1 at admission
    n_subjects: int  # S; some may have no row
    is_alert: Bools | None = None  # (N,) whether p reaches the decision threshold
    has_whole_stays: bool = False
    """The rows are all hourly rows of the stays, with labels shifted six hours ahead of onset."""
    minimum_events: int = 1
    is_per_stay: bool = False
    """Each row is a stay: y whether the event occurred, p the highest probability before it."""
    lead_time: Floats | None = None
    """(N,) hours from a stay's first alert to its onset; NaN without either."""
    has_first_onsets: bool = False
    """y is whether the stay's first onset lies in the target window; later rows are left out."""
    clock: ScoredRows | None = None
    """The same rows with the predictions of the clock, by which others are judged."""
    step_hours: float | None = None
    """Hours from one row of a stay to the next; None: not known, or not constant."""
    weight: Floats | None = None
    """(N,) how many rows each row stands for; None: one. Counts of rows are not weighted."""
    _cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_arrays(cls, y: AnyArray, p: AnyArray, is_alert: AnyArray | None = None) -> ScoredRows:
        """Independent rows: each is its own subject and its own stay."""
        rows = np.arange(len(y))
        return cls(
            np.asarray(y, np.int8),
            np.asarray(p, np.float64),
            subject=rows,
            stay=rows,
            step=np.ones(len(y), np.int64),
            n_subjects=len(y),
            is_alert=None if is_alert is None else np.asarray(is_alert, np.bool_),
        )

    @cached_property
    def n_events(self) -> int:
        """Number of rows with y = 1."""
        return int(np.count_nonzero(self.y))

    @property
    def n_subjects_with_rows(self) -> int:
        """Number of subjects with at least one row."""
        return int(np.count_nonzero(np.bincount(self.subject, minlength=1)))

    @property
    def counts(self) -> tuple[int, int, int]:
        """Number of rows, of rows with the event, and of subjects with a row."""
        return len(self.y), self.n_events, self.n_subjects_with_rows

    @property
    def reason_not_estimable(self) -> str | None:
        """Why no metric can be estimated from these rows; None where one can."""
        events, others = self.n_events, len(self.y) - self.n_events
        if min(events, others) >= self.minimum_events:
            return None
        unit = "stays" if self.is_per_stay else "rows"
        return (
            f"{events:,} {unit} with the event, {others:,} without; "
            f"at least {self.minimum_events:,} of both are needed"
        )

    def cached(self, key: str, compute: Callable[[], T]) -> T:
        """The result of ``compute()``, computed once for all resamples."""
        if key not in self._cache:
            self._cache[key] = compute()
        result: T = self._cache[key]
        return result

    def weigh(self, values: AnyArray) -> AnyArray:
        """The values (N,), each times the weight of its row."""
        return values if self.weight is None else values * self.weight

    def sum_by_subject(self, values: AnyArray) -> Floats:
        """The sum of the weighted ``values`` (N,) of each subject's rows, shape (S,)."""
        weighted = self.weigh(values)
        sums = np.bincount(self.subject, weighted, minlength=self.n_subjects)
        return np.asarray(sums, np.float64)

    @property
    def ranking(self) -> Ranking:
        """The rows counted by probability and subject."""
        return self.cached(
            "ranking",
            lambda: Ranking.from_rows(
                self.y, self.p, self.subject, self.n_subjects, weight=self.weight
            ),
        )


class Sample:
    """B weighted copies of the scored rows: subject s counts ``weights[s, b]`` times in copy b."""

    def __init__(self, scored: ScoredRows, weights: Floats | None = None) -> None:
        """``weights`` has shape (S, B); None: one copy in which every subject counts once."""
        self.scored = scored
        self.weights = np.ones((scored.n_subjects, 1)) if weights is None else weights
        self._cache: dict[str, Floats] = {}

    @property
    def size(self) -> int:
        """The number of copies, B."""
        return int(self.weights.shape[1])

    def cached(self, key: str, compute: Callable[[], Floats]) -> Floats:
        """The result of ``compute()``, computed once for all metrics of the sample."""
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]

    def weighted_sum(self, values: AnyArray) -> Floats:
        """The weighted sum of ``values`` (N,) over the rows of each copy, shape (B,)."""
        return self._sum_copies(self.scored.sum_by_subject(values))

    def cached_sum(self, key: str, compute: Callable[[], AnyArray]) -> Floats:
        """As :meth:`weighted_sum` of ``compute()``, which is added up by subject once for all
        samples of the rows.

        Args:
            key: A name of the values, such as that of the metric.
            compute: Gives the values (N,), which depend on the rows alone.
        """
        scored = self.scored
        by_subject = scored.cached(f"{key} by subject", lambda: scored.sum_by_subject(compute()))
        return self._sum_copies(by_subject)

    def _sum_copies(self, by_subject: Floats) -> Floats:
        # einsum instead of BLAS: the same bits on any number of threads
        sums: Floats = np.einsum("s,sb->b", by_subject, self.weights)
        return sums

    @cached_property
    def n_rows(self) -> Floats:
        """Weighted number of rows, shape (B,)."""
        return self.cached_sum("rows", lambda: np.ones(len(self.scored.y)))

    @cached_property
    def n_positive(self) -> Floats:
        """Weighted number of rows with y = 1, shape (B,)."""
        return self.cached_sum("events", lambda: self.scored.y)

    @property
    def n_negative(self) -> Floats:
        """Weighted number of rows with y = 0, shape (B,)."""
        return self.n_rows - self.n_positive

    @cached_property
    def of_clock(self) -> Sample | None:
        """The clock's predictions of the same rows with the same weights."""
        clock = self.scored.clock
        return None if clock is None else Sample(clock, self.weights)

    @cached_property
    def threshold_counts(self) -> ThresholdCounts:
        """Weighted counts at every threshold, shapes (J, B)."""
        return self.scored.ranking.count(self.weights)


def safe_divide(numerator: Floats, denominator: Floats) -> Floats:
    """``numerator / denominator``, NaN where the denominator is 0."""
    undefined: Floats = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)


def sum_products(first: Floats, second: Floats) -> Floats:
    """The sums over the first axis of the products of two arrays (J, B), shape (B,)."""
    # einsum instead of BLAS: the same bits on any number of threads
    sums: Floats = np.einsum("jb,jb->b", first, second)
    return sums
