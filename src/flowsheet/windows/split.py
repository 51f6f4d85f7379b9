"""Who trains, who validates, who is held out: by subject, and the same for ever."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from flowsheet.config import EvaluationConfig
from flowsheet.errors import CheckFailed
from flowsheet.home import digest, read_json, write_json

Subjects = NDArray[np.int64]
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Split:
    """Three sets of subjects, pairwise disjoint, each ascending."""

    train: Subjects
    valid: Subjects
    test: Subjects

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of who is where."""
        return digest(self._parts())

    def _parts(self) -> dict[str, list[int]]:
        return {part: getattr(self, part).tolist() for part in PARTS}

    def save(self, path: Path) -> None:
        """Write the subjects and the fingerprint as JSON."""
        write_json(path, {"fingerprint": self.fingerprint, **self._parts()})

    @classmethod
    def load(cls, path: Path) -> Self:
        """The split that :meth:`save` wrote.

        Raises:
            CheckFailed: the file's subjects are not those that its fingerprint was taken of.
        """
        held = read_json(path)
        split = cls(*(np.array(held[part], np.int64) for part in PARTS))
        if split.fingerprint != held["fingerprint"]:
            raise CheckFailed(
                "the split was changed after it was frozen",
                where=str(path),
                todo="restore the file, or delete its folder to split again",
            )
        return split


def make_split(subjects: Subjects, has_event: NDArray[np.bool_], evaluation: EvaluationConfig, seed: int) -> Split:
    """Split the subjects, in the declared shares among those who ever had the event and among those who never had.

    ``subjects`` and ``has_event`` have one element a subject or one a stay, in any order. Within each of the two
    groups the subjects are put in the order of a hash of (seed, subject); the first are held out, the next
    validate. So the split depends on nothing but who is in which group: not on rows, threads, processes or library
    versions; and a subject who joins one group moves nobody of the other.

    Raises:
        CheckFailed: the shares leave a part without any subject.
    """
    unique, position = np.unique(subjects, return_inverse=True)
    ever = np.bincount(position, weights=has_event, minlength=len(unique)) > 0
    groups = [_shuffled(unique[ever == group], seed) for group in (True, False)]
    sizes = np.array([len(group) for group in groups])
    test = _quota(sizes, sizes, evaluation.test)
    valid = _quota(sizes, sizes - test, evaluation.validation)
    ends = np.stack([np.zeros(2, np.int64), test, test + valid, sizes])
    parts = [_gather(groups, low, high) for low, high in pairwise(ends)]
    if min(map(len, parts)) == 0:
        raise CheckFailed(
            f"{len(unique)} subjects cannot be split into a training, a validation and a test part",
            where=f"evaluation {evaluation.name}: test {evaluation.test}, validation {evaluation.validation}",
            todo="use a larger cohort or smaller shares",
        )
    held_out, validating, training = parts
    return Split(training, validating, held_out)


def _gather(groups: list[Subjects], low: Subjects, high: Subjects) -> Subjects:
    """The members low to high of each group, ascending."""
    return np.sort(np.concatenate([group[a:b] for group, a, b in zip(groups, low, high, strict=True)]))


def _shuffled(subjects: Subjects, seed: int) -> Subjects:
    """In the order of their hashes; ``subjects`` ascend."""
    hashes = (blake2b(f"{seed}:{subject}".encode(), digest_size=8).digest() for subject in subjects.tolist())
    keys = np.array([int.from_bytes(h) for h in hashes], np.uint64)
    return np.asarray(subjects[np.argsort(keys, kind="stable")])


def _quota(sizes: Subjects, left: Subjects, share: float) -> Subjects:
    """How many of each group; at least one of all, out of the group with most left."""
    wanted: Subjects = np.minimum(np.floor(share * sizes + 0.5).astype(np.int64), left)
    if wanted.sum() == 0 and left.sum():
        wanted[np.argmax(left)] = 1
    return wanted
