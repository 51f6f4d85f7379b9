"""Which subjects are held out: a random share, each in one fold, the latest, or those of a site.

In every protocol a subject is in exactly one part of a split, and tuning and early stopping see
only the training and validation subjects of that split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flowsheet.config import EvaluationConfig, Protocol
from flowsheet.errors import UsageError, did_you_mean
from flowsheet.typing import Bools, Ints
from flowsheet.windows.split import (
    Split,
    group_by_event,
    make_split,
    split_groups,
    too_few_subjects,
)


@dataclass(frozen=True)
class SubjectTable:
    """What the protocols split by: one element a stay, in any order."""

    subject: Ints
    has_event: Bools
    admitted: Ints  # any clock that orders the stays
    site: NDArray[np.str_]


@dataclass(frozen=True)
class FoldId:
    """Which fold of a protocol; the same everywhere from the split to the results."""

    name: str = ""
    """For people; empty when the protocol has one fold only."""
    repeat: int = 0
    """Repetition of the cross-validation, counted from 0."""
    fold: int = 0
    """Fold within the repetition, counted from 0."""


@dataclass(frozen=True)
class Fold:
    """One fold of a protocol and its split."""

    id: FoldId
    split: Split


def make_folds(table: SubjectTable, evaluation: EvaluationConfig, seed: int) -> list[Fold]:
    """The folds of the protocol; the order of the stays in the table does not matter.

    Raises:
        CheckFailed: the cohort is too small for the protocol.
        UsageError: no stay is at a site that is to be held out.
    """
    return _PROTOCOLS[evaluation.protocol](table, evaluation, seed)


def train_on_all(table: SubjectTable, evaluation: EvaluationConfig, seed: int) -> Split:
    """A split without test subjects: for the final refit of a model that the folds evaluated."""
    groups = group_by_event(table.subject, table.has_event, str(seed))
    return split_groups(groups, [0, 0], evaluation)


def _holdout(table: SubjectTable, evaluation: EvaluationConfig, seed: int) -> list[Fold]:
    return [Fold(FoldId(), make_split(table.subject, table.has_event, evaluation, seed))]


def _cross_validation(table: SubjectTable, evaluation: EvaluationConfig, seed: int) -> list[Fold]:
    """K folds, once for each repetition with another order of the subjects."""
    folds = []
    for repeat in range(evaluation.repeats):
        for k in range(evaluation.folds):
            fold_id = FoldId(f"{repeat + 1}.{k + 1}", repeat, k)
            folds.append(Fold(fold_id, _split_of_fold(table, evaluation, f"{seed}.{repeat}", k)))
    return folds


def _split_of_fold(table: SubjectTable, evaluation: EvaluationConfig, salt: str, k: int) -> Split:
    """The k-th of K equal slices of each group, in hash order, is the test part.

    The subjects that follow the slice are the validation subjects.
    """
    groups, sizes = [], []
    for group in group_by_event(table.subject, table.has_event, salt):
        start = len(group) * k // evaluation.folds
        stop = len(group) * (k + 1) // evaluation.folds
        groups.append(np.roll(group, -start))
        sizes.append(stop - start)
    if not sum(sizes):
        raise too_few_subjects(sum(map(len, groups)), evaluation)
    return split_groups(groups, sizes, evaluation)


def _temporal(table: SubjectTable, evaluation: EvaluationConfig, seed: int) -> list[Fold]:
    """The subjects with the latest last admissions are the test part.

    So no training stay begins after the last stay of any test subject.
    """
    unique, position = np.unique(table.subject, return_inverse=True)
    last = np.full(len(unique), np.iinfo(np.int64).min)
    np.maximum.at(last, position, table.admitted)
    latest_first = unique[np.lexsort((unique, last))[::-1]]
    held_out = int(evaluation.test * len(unique) + 0.5)
    if not held_out:
        raise too_few_subjects(len(unique), evaluation)
    return [Fold(FoldId(), split_groups([latest_first], [held_out], evaluation))]


def _site(table: SubjectTable, evaluation: EvaluationConfig, seed: int) -> list[Fold]:
    """One fold that holds out the declared sites; without any, a fold for each site."""
    present = sorted(set(table.site.tolist()))
    for site in evaluation.sites:
        if site not in present:
            raise UsageError(f"no stay is at the site {site!r}", todo=did_you_mean(site, present))
    if len(present) < 2:
        raise UsageError(
            "the site protocol needs stays of two sites or more", todo="use evaluation=holdout"
        )
    if evaluation.sites:
        return [Fold(FoldId(), _hold_out_sites(table, evaluation.sites, evaluation, seed))]
    by_first_site = _assign_first_site(table)
    return [
        Fold(FoldId(site, 0, i), _hold_out_sites(by_first_site, (site,), evaluation, seed))
        for i, site in enumerate(present)
    ]


def _assign_first_site(table: SubjectTable) -> SubjectTable:
    """Every stay gets the site of its subject's first stay.

    Each subject is then held out in one fold only.
    """
    order = np.lexsort((table.site, table.admitted, table.subject))
    _, first, position = np.unique(table.subject[order], return_index=True, return_inverse=True)
    site = np.empty_like(table.site)
    site[order] = table.site[order][first][position]
    return replace(table, site=site)


def _hold_out_sites(
    table: SubjectTable, sites: tuple[str, ...], evaluation: EvaluationConfig, seed: int
) -> Split:
    """Subjects with any stay at one of the sites are the test part, with all their stays."""
    at_sites = np.unique(table.subject[np.isin(table.site, sites)])
    groups, sizes = [], []
    for group in group_by_event(table.subject, table.has_event, str(seed)):
        is_test = np.isin(group, at_sites)
        groups.append(np.concatenate([group[is_test], group[~is_test]]))
        sizes.append(int(is_test.sum()))
    return split_groups(groups, sizes, evaluation)


_PROTOCOLS: dict[Protocol, Callable[[SubjectTable, EvaluationConfig, int], list[Fold]]] = {
    Protocol.holdout: _holdout,
    Protocol.cross_validation: _cross_validation,
    Protocol.temporal: _temporal,
    Protocol.site: _site,
}
