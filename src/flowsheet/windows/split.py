"""Who trains, who validates, who is held out: by subject, and the same for ever."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Self

import numpy as np

from flowsheet.config import EvaluationConfig
from flowsheet.errors import CheckFailed
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Bools, Ints

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Split:
    """Three sets of subjects, pairwise disjoint, each ascending."""

    train: Ints
    valid: Ints
    test: Ints

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


def make_split(subjects: Ints, has_event: Bools, evaluation: EvaluationConfig, seed: int) -> Split:
    """Split the subjects, in the declared shares among those who ever had the event and among those
    who never had.

    ``subjects`` and ``has_event`` have one element a subject or one a stay, in any order. Within
    each of the two groups the subjects are put in the order of a hash of (seed, subject); the first
    are held out, the next validate. So the split depends on nothing but who is in which group: not
    on rows, threads, processes or library versions; and a subject who joins one group moves nobody
    of the other.

    Raises:
        CheckFailed: the shares leave a part without any subject.
    """
    groups = grouped(subjects, has_event, str(seed))
    return divide(groups, quota(groups, evaluation.test), evaluation)


def grouped(subjects: Ints, has_event: Bools, salt: str) -> list[Ints]:
    """Those who ever had the event and those who never had, each in the order of a hash of (salt, subject)."""
    unique, position = np.unique(subjects, return_inverse=True)
    ever = np.bincount(position, weights=has_event, minlength=len(unique)) > 0
    return [_shuffled(unique[ever == group], salt) for group in (True, False)]


def quota(groups: Sequence[Ints], share: float) -> list[int]:
    """How many of each group are that share; at least one of all, out of the largest group."""
    return _quota(groups, [len(group) for group in groups], share)


def divide(groups: Sequence[Ints], held_out: Sequence[int], evaluation: EvaluationConfig) -> Split:
    """Of each group the first ``held_out`` test, the declared share of all come next and validate,
    the rest train.

    Raises:
        CheckFailed: nobody is left to train or to validate, or nobody tests although somebody
        should.
    """
    left = [len(group) - out for group, out in zip(groups, held_out, strict=True)]
    valid = _quota(groups, left, evaluation.validation)
    cuts = [(out, out + some) for out, some in zip(held_out, valid, strict=True)]
    test = _gather(group[:a] for group, (a, _) in zip(groups, cuts, strict=True))
    validating = _gather(group[a:b] for group, (a, b) in zip(groups, cuts, strict=True))
    training = _gather(group[b:] for group, (_, b) in zip(groups, cuts, strict=True))
    if not len(validating) or not len(training) or (any(held_out) and not len(test)):
        raise too_few(sum(map(len, groups)), evaluation)
    return Split(training, validating, test)


def too_few(subjects: int, evaluation: EvaluationConfig) -> CheckFailed:
    """The cohort is too small for the protocol."""
    return CheckFailed(
        f"{subjects} subjects cannot be split into a training, a validation and a test part",
        where=f"evaluation {evaluation.name}: {evaluation.protocol.value}, test {evaluation.test}, "
        f"validation {evaluation.validation}, folds {evaluation.folds}",
        todo="use a larger cohort, smaller shares or fewer folds",
    )


def _gather(groups: Iterable[Ints]) -> Ints:
    return np.sort(np.concatenate(list(groups)))


def _shuffled(subjects: Ints, salt: str) -> Ints:
    """In the order of their hashes; ``subjects`` ascend."""
    hashes = (
        blake2b(f"{salt}:{subject}".encode(), digest_size=8).digest()
        for subject in subjects.tolist()
    )
    keys = np.array([int.from_bytes(h) for h in hashes], np.uint64)
    return np.asarray(subjects[np.argsort(keys, kind="stable")])


def _quota(groups: Sequence[Ints], left: Sequence[int], share: float) -> list[int]:
    wanted = [
        min(int(share * len(group) + 0.5), rest) for group, rest in zip(groups, left, strict=True)
    ]
    if not any(wanted) and any(left):
        wanted[int(np.argmax(left))] = 1
    return wanted
