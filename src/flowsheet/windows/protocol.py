"""Which subjects are held out: once, in turn, the latest, or those of a site.

Whatever the protocol, a subject is in exactly one part of a split, and tuning and early stopping
see the training and validation subjects of that split only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flowsheet.config import EvaluationConfig, Protocol
from flowsheet.errors import UsageError, did_you_mean
from flowsheet.typing import Bools, Ints
from flowsheet.windows.split import Split, divide, grouped, make_split, too_few


@dataclass(frozen=True)
class Roster:
    """Whom a protocol divides: one element a stay, in any order."""

    subject: Ints
    has_event: Bools
    admitted: Ints  # any clock that orders the stays
    site: NDArray[np.str_]


@dataclass(frozen=True)
class Fold:
    """One split of a protocol; ``name`` is empty when there is no other."""

    name: str
    repeat: int
    fold: int
    split: Split


def folds(roster: Roster, evaluation: EvaluationConfig, seed: int) -> list[Fold]:
    """The splits of the protocol, the same ones for the same roster in whatever order.

    Raises:
        CheckFailed: the cohort is too small for the protocol.
        UsageError: a site that is to be held out is not there.
    """
    return _PROTOCOLS[evaluation.protocol](roster, evaluation, seed)


def everybody(roster: Roster, evaluation: EvaluationConfig, seed: int) -> Split:
    """Nobody is held out: for the model that goes into service once the protocol has judged its kind."""
    groups = grouped(roster.subject, roster.has_event, str(seed))
    return divide(groups, [0, 0], evaluation)


def _holdout(roster: Roster, evaluation: EvaluationConfig, seed: int) -> list[Fold]:
    return [Fold("", 0, 0, make_split(roster.subject, roster.has_event, evaluation, seed))]


def _cross_validation(roster: Roster, evaluation: EvaluationConfig, seed: int) -> list[Fold]:
    """Each group's hash order is cut into K runs; a fold's run is held out, the subjects after it validate."""
    return [
        Fold(
            f"{repeat + 1}.{fold + 1}",
            repeat,
            fold,
            _rotated(roster, evaluation, f"{seed}.{repeat}", fold),
        )
        for repeat in range(evaluation.repeats)
        for fold in range(evaluation.folds)
    ]


def _rotated(roster: Roster, evaluation: EvaluationConfig, salt: str, fold: int) -> Split:
    groups, sizes = [], []
    for group in grouped(roster.subject, roster.has_event, salt):
        start, stop = (len(group) * k // evaluation.folds for k in (fold, fold + 1))
        groups.append(np.roll(group, -start))
        sizes.append(stop - start)
    if not sum(sizes):
        raise too_few(sum(map(len, groups)), evaluation)
    return divide(groups, sizes, evaluation)


def _temporal(roster: Roster, evaluation: EvaluationConfig, seed: int) -> list[Fold]:
    """By each subject's last admission: no training stay began after the first held-out subject's last one."""
    unique, position = np.unique(roster.subject, return_inverse=True)
    last = np.full(len(unique), np.iinfo(np.int64).min)
    np.maximum.at(last, position, roster.admitted)
    latest_first = unique[np.lexsort((unique, last))[::-1]]
    held_out = int(evaluation.test * len(unique) + 0.5)
    if not held_out:
        raise too_few(len(unique), evaluation)
    return [Fold("", 0, 0, divide([latest_first], [held_out], evaluation))]


def _site(roster: Roster, evaluation: EvaluationConfig, seed: int) -> list[Fold]:
    present = sorted(set(roster.site.tolist()))
    for site in evaluation.sites:
        if site not in present:
            raise UsageError(f"no stay is at the site {site!r}", todo=did_you_mean(site, present))
    if len(present) < 2:
        raise UsageError(
            "the site protocol needs stays of two sites or more", todo="use evaluation=holdout"
        )
    if evaluation.sites:
        return [Fold("", 0, 0, _without(roster, evaluation.sites, evaluation, seed))]
    at_home = _at_home(roster)
    return [
        Fold(site, 0, i, _without(at_home, (site,), evaluation, seed))
        for i, site in enumerate(present)
    ]


def _at_home(roster: Roster) -> Roster:
    """Every stay at the site where its subject came first, so that each subject is held out in one turn only."""
    order = np.lexsort((roster.site, roster.admitted, roster.subject))
    _, first, position = np.unique(roster.subject[order], return_index=True, return_inverse=True)
    home = np.empty_like(roster.site)
    home[order] = roster.site[order][first][position]
    return replace(roster, site=home)


def _without(
    roster: Roster, sites: tuple[str, ...], evaluation: EvaluationConfig, seed: int
) -> Split:
    """Whoever was ever at one of the sites is held out, with all stays."""
    away = np.unique(roster.subject[np.isin(roster.site, sites)])
    groups, sizes = [], []
    for group in grouped(roster.subject, roster.has_event, str(seed)):
        held = np.isin(group, away)
        groups.append(np.concatenate([group[held], group[~held]]))
        sizes.append(int(held.sum()))
    return divide(groups, sizes, evaluation)


_PROTOCOLS: dict[Protocol, Callable[[Roster, EvaluationConfig, int], list[Fold]]] = {
    Protocol.holdout: _holdout,
    Protocol.cross_validation: _cross_validation,
    Protocol.temporal: _temporal,
    Protocol.site: _site,
}
