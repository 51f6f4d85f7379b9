"""ScoredRows rows, and weighted resamples of the subjects behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from flowsheet.evaluation.metrics._ranking import Curve, Ranking
from flowsheet.typing import AnyArray, Bools, Floats, Ints, Labels

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """N scored rows of S subjects: what is true, and what one model said. The order of rows does not matter."""

    y: Labels  # (N,) 0 or 1
    p: Floats  # (N,) probabilities
    subject: Ints  # (N,) position of the row's subject, 0..S-1
    stay: Ints  # (N,) position of the row's stay, counted from 0
    step: Ints  # (N,) k, counted from 1 at admission
    subjects: int  # S; some may have no row
    alarm: Bools | None = None  # (N,) whether the model would ring
    whole_stays: bool = False
    """The rows are all of the stays' hourly rows, with labels shifted six hours ahead of onset."""
    minimum_events: int = 1
    per_stay: bool = False
    """Each row stands for a stay: y whether the event came, p the highest probability before it."""
    lead: Floats | None = None
    """(N,) of stays: hours from the first alarm to onset; NaN without either."""
    _cache: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_arrays(cls, y: AnyArray, p: AnyArray, alarm: AnyArray | None = None) -> ScoredRows:
        """Rows of which nothing else is known: each counts as a subject and a stay of its own."""
        rows = np.arange(len(y))
        return cls(
            np.asarray(y, np.int8),
            np.asarray(p, np.float64),
            subject=rows,
            stay=rows,
            step=np.ones(len(y), np.int64),
            subjects=len(y),
            alarm=None if alarm is None else np.asarray(alarm, np.bool_),
        )

    @property
    def events(self) -> int:
        """Rows with y = 1."""
        return int(np.count_nonzero(self.y))

    @property
    def subjects_seen(self) -> int:
        """Subjects with at least one row."""
        return int(np.count_nonzero(np.bincount(self.subject, minlength=1)))

    @property
    def counts(self) -> tuple[int, int, int]:
        """Rows, rows with the event, and subjects with a row."""
        return len(self.y), self.events, self.subjects_seen

    @property
    def reason_not_estimable(self) -> str | None:
        """The reason that no figure can be given, or None."""
        events, others = self.events, len(self.y) - self.events
        if min(events, others) >= self.minimum_events:
            return None
        what = "stays" if self.per_stay else "rows"
        return f"{events:,} {what} with the event, {others:,} without; at least {self.minimum_events:,} of both are needed"

    def cached(self, key: str, make: Callable[[], T]) -> T:
        """``make()``, made once for all resamples."""
        if key not in self._cache:
            self._cache[key] = make()
        kept: T = self._cache[key]
        return kept

    @property
    def ranking(self) -> Ranking:
        """The order of the rows by probability, made once."""
        return self.cached(
            "ranking", lambda: Ranking.from_rows(self.y, self.p, self.subject, self.subjects)
        )


class Sample:
    """B weighted copies of the scored rows: subject s counts ``weights[s, b]`` times in copy b."""

    def __init__(self, scored: ScoredRows, weights: Floats | None = None) -> None:
        """``weights`` has shape (S, B); None is the one sample that was seen."""
        self.scored = scored
        self.weights = np.ones((scored.subjects, 1)) if weights is None else weights

    def total(self, values: AnyArray) -> Floats:
        """Weighted sum over the rows of ``values`` (N,), shape (B,)."""
        by_subject = np.bincount(self.scored.subject, values, minlength=self.scored.subjects)
        totals: Floats = np.einsum(
            "s,sb->b", by_subject, self.weights
        )  # no BLAS: the same bits on any number of threads
        return totals

    @cached_property
    def rows(self) -> Floats:
        """Weighted number of rows, shape (B,)."""
        return self.total(np.ones(len(self.scored.y)))

    @cached_property
    def positives(self) -> Floats:
        """Weighted number of rows with y = 1, shape (B,)."""
        return self.total(self.scored.y)

    @property
    def negatives(self) -> Floats:
        """Weighted number of rows with y = 0, shape (B,)."""
        return self.rows - self.positives

    @cached_property
    def curve(self) -> Curve:
        """Counts at each threshold, shapes (J, B)."""
        return self.scored.ranking.curve(self.weights)


def ratio(top: Floats, bottom: Floats) -> Floats:
    """``top / bottom``, NaN where ``bottom`` is 0."""
    unknown: Floats = np.full(np.broadcast(top, bottom).shape, np.nan)
    return np.divide(top, bottom, out=unknown, where=bottom != 0)
