"""Rows counted within each step: pairs of rows of the same time since admission."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowsheet.evaluation.metrics._ranking import Ranking
from flowsheet.evaluation.metrics._rows import Sample, ScoredRows
from flowsheet.typing import Bools, Floats


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


def count_step_pairs(sample: Sample, is_case: Bools, is_control: Bools, key: str) -> StepPairs:
    """The pairs within each step that has a case.

    Args:
        sample: the rows with their weights.
        is_case: (N,) rows that should rank high.
        is_control: (N,) rows that should rank low; other rows are left out.
        key: of the rankings in the cache of the rows.
    """
    scored = sample.scored
    rankings = scored.cached(key, lambda: _rank_steps(scored, is_case, is_control))
    counts = [_count(ranking, sample.weights) for ranking in rankings]
    shape = (0, sample.size)
    parts = [np.stack(part) if part else np.zeros(shape) for part in zip(*counts, strict=True)]
    return StepPairs(*parts) if parts else StepPairs(*(np.zeros(shape) for _ in range(3)))


def _rank_steps(scored: ScoredRows, is_case: Bools, is_control: Bools) -> list[Ranking]:
    rows = np.flatnonzero(is_case | is_control)
    order = rows[np.argsort(scored.step[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(scored.step[order], prepend=-1))
    rankings = []
    for group in np.split(order, starts[1:]):
        if is_case[group].any():
            weight = None if scored.weight is None else scored.weight[group]
            rankings.append(
                Ranking.from_rows(
                    is_case[group].astype(np.int8),
                    scored.p[group],
                    scored.subject[group],
                    scored.n_subjects,
                    weight=weight,
                )
            )
    return rankings


def _count(ranking: Ranking, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Cases, controls and concordant pairs of one step, shapes (B,)."""
    tied_cases = ranking.tied_events @ weights
    controls_by_rank = ranking.non_events_above @ weights
    controls = controls_by_rank.sum(axis=0)
    not_below = np.cumsum(controls_by_rank[::-1], axis=0)[::-1][1:]
    discordant = not_below + ranking.tied_non_events @ weights / 2
    cases = tied_cases.sum(axis=0)
    return cases, controls, cases * controls - (tied_cases * discordant).sum(axis=0)
