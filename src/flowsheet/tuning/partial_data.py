"""A part of the training subjects for the first rungs of a trial.

The parts are nested, and a subject is in a part or not whatever other subjects there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowsheet.typing import Bools, Ints
from flowsheet.windows.sequences import Sequences

MIN_EVENTS = 10
"""Rows of each class without which a part is passed over: little can be fitted to it."""

_LARGEST_PART = 0.5
"""Of the subjects; a larger part would cost almost as much as all."""


@dataclass(frozen=True)
class Rung:
    """How much of the training data a trial is fitted to, before it is compared with others."""

    step: int
    """Its place among the steps that are reported: 1, f, f^2, ... of the reduction factor f."""
    share: float
    """Of the training subjects."""


def list_rungs(first_share: float | None, reduction_factor: int) -> list[Rung]:
    """The rungs below all data; none without a first share.

    >>> [(rung.step, rung.share) for rung in list_rungs(0.1, 3)]
    [(1, 0.1), (3, 0.3)]
    """
    rungs: list[Rung] = []
    step = 1
    while first_share is not None and first_share * step <= _LARGEST_PART:
        rungs.append(Rung(step, round(first_share * step, 12)))
        step *= reduction_factor
    return rungs


def select_part(train: Sequences, share: float, seed: int) -> Sequences | None:
    """The stays of that share of the subjects; None where it has too few events.

    Args:
        train: the training stays.
        share: of the subjects, between 0 and 1.
        seed: of the choice.
    """
    part = train.take(choose_subjects(np.asarray(train.subject_id), share, seed))
    y = np.asarray(part.y)[np.asarray(part.scored)]
    events = int(y.sum())
    return part if min(events, len(y) - events) >= MIN_EVENTS else None


def choose_subjects(subject_id: Ints, share: float, seed: int) -> Bools:
    """Whether each subject is in the part of that share: by a hash of its id and the seed.

    The hash is the finaliser of splitmix64 (Steele et al. 2014, doi 10.1145/2660193.2660195).
    """
    start = (seed + 1) * 0x9E3779B97F4A7C15 % 2**64
    z = subject_id.astype(np.uint64) + np.uint64(start)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.asarray(z < np.uint64(share * 2**63) * np.uint64(2))
