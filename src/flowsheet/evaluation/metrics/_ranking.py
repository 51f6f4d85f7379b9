"""Counts of true and false alarms at every threshold that matters, for many weightings at once.

Only the scores of rows with the event matter as thresholds: between two of them the curves run
straight. Rows are summed by subject and threshold once, as sparse matrices; each resample is then a
product with its subject weights, exact as long as the counts stay below 2^53.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flowsheet.typing import Floats, Ints, Labels


@dataclass(frozen=True)
class Curve:
    """Weighted counts at J thresholds, the distinct scores of rows with the event, ascending; shapes (J, B)."""

    positive: Floats  # rows with the event that have just this score
    tp: Floats  # rows with the event at or above it
    above: Floats  # rows without the event strictly above it
    tie: Floats  # rows without the event that have just this score

    @property
    def fp(self) -> Floats:
        """Rows without the event at or above the threshold."""
        return self.above + self.tie


@dataclass(frozen=True)
class Ranking:
    """Rows counted by threshold and subject: sparse matrices with S columns."""

    thresholds: Floats  # (J,) ascending
    positive: Any  # (J, S)
    above: Any  # (J + 1, S) row j: rows without the event above exactly j of the thresholds
    tie: Any  # (J, S)

    @classmethod
    def from_rows(cls, y: Labels, p: Floats, subject: Ints, subjects: int) -> Ranking:
        """Count the rows (N,) of S subjects."""
        event = y == 1
        thresholds, place = np.unique(p[event], return_inverse=True)
        size = len(thresholds)
        other, who = p[~event], subject[~event]
        exceeded = np.searchsorted(thresholds, other)
        tied = np.zeros(len(other), np.bool_)
        inside = exceeded < size
        tied[inside] = thresholds[exceeded[inside]] == other[inside]
        return cls(
            thresholds,
            positive=_counts(place, subject[event], (size, subjects)),
            above=_counts(exceeded, who, (size + 1, subjects)),
            tie=_counts(exceeded[tied], who[tied], (size, subjects)),
        )

    def curve(self, weights: Floats) -> Curve:
        """The counts under each of B weightings, ``weights`` of shape (S, B)."""
        positive = self.positive @ weights
        return Curve(
            positive=positive,
            tp=_from_above(positive),
            above=_from_above(self.above @ weights)[1:],
            tie=self.tie @ weights,
        )


def _counts(place: Ints, subject: Ints, shape: tuple[int, int]) -> Any:
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(place)), (place, subject)), shape=shape)


def _from_above(counts: Floats) -> Floats:
    """Cumulative sums from the last row to the first."""
    return np.cumsum(counts[::-1], axis=0)[::-1]
