"""Counts of true and false alerts at every threshold that matters, for many weightings at once.

Only the probabilities of rows with the event matter as thresholds: between two of them the ROC and
precision-recall curves are straight lines. Rows are summed by subject and threshold once, as sparse
matrices; each resample is then a product with its subject weights, exact as long as the counts stay
below 2^53.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from flowsheet.typing import Floats, Ints, Labels


@dataclass(frozen=True)
class ThresholdCounts:
    """Weighted counts of rows at J ascending thresholds in B samples; shapes (J, B).

    The thresholds are the distinct probabilities of the rows with the event.
    """

    tied_events: Floats  # rows with the event whose probability equals the threshold
    true_positives: Floats  # rows with the event at or above the threshold
    non_events_above: Floats  # rows without the event strictly above the threshold
    tied_non_events: Floats  # rows without the event whose probability equals the threshold

    @cached_property
    def positives(self) -> Floats:
        """Rows at or above the threshold."""
        return self.true_positives + self.non_events_above + self.tied_non_events


@dataclass(frozen=True)
class Ranking:
    """Rows counted by threshold and subject: sparse matrices with S columns."""

    thresholds: Floats  # (J,) ascending
    tied_events: Any  # (J, S)
    non_events_above: Any  # (J + 1, S); row j: rows without the event above exactly j thresholds
    tied_non_events: Any  # (J, S)

    @classmethod
    def from_rows(
        cls, y: Labels, p: Floats, subject: Ints, n_subjects: int, weight: Floats | None = None
    ) -> Ranking:
        """Count rows by threshold and subject.

        Args:
            y: labels, shape (N,).
            p: predicted probabilities, shape (N,).
            subject: position of each row's subject, 0..S-1, shape (N,).
            n_subjects: S, the number of subjects; some may have no row.
            weight: how often each row counts, shape (N,); None: once.
        """
        weight = np.ones(len(y)) if weight is None else weight
        is_event = y == 1
        thresholds, threshold_index = np.unique(p[is_event], return_inverse=True)
        size = len(thresholds)
        other_p, other_subject, other_weight = p[~is_event], subject[~is_event], weight[~is_event]
        n_below = np.searchsorted(thresholds, other_p)
        is_tied = np.zeros(len(other_p), np.bool_)
        in_range = n_below < size
        is_tied[in_range] = thresholds[n_below[in_range]] == other_p[in_range]
        return cls(
            thresholds,
            tied_events=_sparse_counts(
                threshold_index, subject[is_event], weight[is_event], (size, n_subjects)
            ),
            non_events_above=_sparse_counts(
                n_below, other_subject, other_weight, (size + 1, n_subjects)
            ),
            tied_non_events=_sparse_counts(
                n_below[is_tied], other_subject[is_tied], other_weight[is_tied], (size, n_subjects)
            ),
        )

    def count(self, weights: Floats) -> ThresholdCounts:
        """The counts under each of B weightings, ``weights`` of shape (S, B)."""
        tied_events = _multiply(self.tied_events, weights)
        return ThresholdCounts(
            tied_events=tied_events,
            true_positives=_reverse_cumsum(tied_events),
            non_events_above=_reverse_cumsum(_multiply(self.non_events_above, weights))[1:],
            tied_non_events=_multiply(self.tied_non_events, weights),
        )


def _sparse_counts(row: Ints, column: Ints, weight: Floats, shape: tuple[int, int]) -> Any:
    from scipy.sparse import csr_array

    return csr_array((weight, (row, column)), shape=shape)


def _multiply(counts: Any, weights: Floats) -> Floats:
    """The product of a sparse matrix and some weightings."""
    if weights.shape[1] == 1:  # a product with a vector is faster
        return np.asarray(counts @ weights[:, 0])[:, None]
    return np.asarray(counts @ weights)


def _reverse_cumsum(counts: Floats) -> Floats:
    """Cumulative sums from the last row to the first."""
    return np.cumsum(counts[::-1], axis=0)[::-1]
