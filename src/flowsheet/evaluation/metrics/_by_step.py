"""Rows counted within each step: pairs of rows of the same time since admission."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flowsheet.evaluation.metrics._ranking import Ranking
from flowsheet.evaluation.metrics._rows import Sample, ScoredRows
from flowsheet.typing import Bools, Floats, Ints


@dataclass(frozen=True)
class StepPairs:
    """Weighted pairs of K steps with a case, ascending, in B samples; shapes (K, B)."""

    cases: Floats
    controls: Floats
    concordant: Floats
    """Pairs of a case and a control in which the case ranks higher; ties count half."""

    @property
    def pairs(self) -> Floats:
        """Pairs of a case and a control."""
        return self.cases * self.controls


@dataclass(frozen=True)
class _StepRanking:
    """The rows of all steps in one ranking: by step, then by probability."""

    ranking: Ranking
    """Each step begins with a threshold below all its rows, at which there are none."""
    first: Ints
    """(K,) the position of that threshold."""

    def count(self, weights: Floats) -> StepPairs:
        """The pairs within each step under B weightings, ``weights`` of shape (S, B)."""
        counts = self.ranking.count(weights)
        controls_from = counts.non_events_above[self.first]
        controls_after = np.zeros_like(controls_from)
        controls_after[:-1] = controls_from[1:]
        cases, controls = self._sum_steps(counts.tied_events), controls_from - controls_after
        # a threshold's controls above it, without those of later steps
        discordant = self._sum_steps(counts.tied_events * counts.non_events_above)
        discordant -= cases * controls_after
        tied = self._sum_steps(counts.tied_events * counts.tied_non_events)
        return StepPairs(cases, controls, cases * controls - discordant - tied / 2)

    def _sum_steps(self, values: Floats) -> Floats:
        """The sum over the thresholds of each step, of values of shape (J, B): (K, B)."""
        if not len(self.first):
            return np.zeros((0, values.shape[1]))
        return np.asarray(np.add.reduceat(values, self.first, axis=0))


def count_step_pairs(
    sample: Sample, choose: Callable[[], tuple[Bools, Bools]], key: str
) -> StepPairs:
    """The pairs within each step that has a case.

    Args:
        sample: the rows with their weights.
        choose: gives the rows (N,) that should rank high, and those that should rank low; other
            rows are left out.
        key: of the ranking in the cache of the rows.
    """
    ranking = sample.scored.cached(key, lambda: _rank_steps(sample.scored, *choose()))
    return ranking.count(sample.weights)


def _rank_steps(scored: ScoredRows, is_case: Bools, is_control: Bools) -> _StepRanking:
    steps = np.unique(scored.step[is_case])
    rows = np.flatnonzero((is_case | is_control) & np.isin(scored.step, steps))
    step, p = scored.step[rows], scored.p[rows]
    order = np.lexsort((p, step))
    begins_step = np.diff(step[order], prepend=-1) > 0
    is_higher = begins_step | (np.diff(p[order], prepend=-1.0) > 0)
    # a place is left free below the first rank of each step
    rank = np.empty(len(rows))
    rank[order] = np.cumsum(is_higher) + np.cumsum(begins_step)
    below = rank[order][begins_step] - 1
    weight = np.ones(len(rows)) if scored.weight is None else scored.weight[rows]
    zeros = np.zeros(len(below), np.int64)
    ranking = Ranking.from_rows(
        np.concatenate([is_case[rows], np.ones(len(below), np.bool_)]).astype(np.int8),
        np.concatenate([rank, below]),
        np.concatenate([scored.subject[rows], zeros]),
        scored.n_subjects,
        weight=np.concatenate([weight, zeros]),
    )
    return _StepRanking(ranking, np.searchsorted(ranking.thresholds, below))
