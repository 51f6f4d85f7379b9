"""Training, validation and test subjects: one split by subject, reproducible for good."""

from __future__ import annotations

from collections.abc import Sequence
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
        """sha256 of the subjects of each part."""
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
            CheckFailed: the subjects in the file do not match its fingerprint.
        """
        content = read_json(path)
        split = cls(*(np.array(content[part], np.int64) for part in PARTS))
        if split.fingerprint != content["fingerprint"]:
            raise CheckFailed(
                "the split was changed after it was frozen",
                where=str(path),
                todo="restore the file, or delete its folder to split again",
            )
        return split


def make_split(subjects: Ints, has_event: Bools, evaluation: EvaluationConfig, seed: int) -> Split:
    """Split the subjects, stratified by whether they ever had the event.

    Within each of the two groups, with and without the event, the subjects are ordered by a hash
    of (seed, subject): the first are the test subjects, the next ones the validation subjects.
    The split therefore depends only on the groups of the subjects, not on rows, threads, processes
    or versions of libraries, and a new subject in one group changes nothing in the other group.

    Args:
        subjects: Subject ids, one element a subject or one a stay, in any order.
        has_event: For each element whether the event occurred, same shape as ``subjects``.
        evaluation: The shares of test and validation subjects.
        seed: Another seed gives another split.

    Raises:
        CheckFailed: the shares leave a part without any subject.
    """
    groups = group_by_event(subjects, has_event, str(seed))
    return split_groups(groups, allocate(groups, evaluation.test), evaluation)


def group_by_event(subjects: Ints, has_event: Bools, salt: str) -> list[Ints]:
    """Subjects with and without the event; each group in the order of a hash of (salt, subject)."""
    unique, position = np.unique(subjects, return_inverse=True)
    ever = np.bincount(position, weights=has_event, minlength=len(unique)) > 0
    return [_order_by_hash(unique[ever], salt), _order_by_hash(unique[~ever], salt)]


def allocate(groups: Sequence[Ints], share: float) -> list[int]:
    """That share of each group as a number of subjects; in total one subject at least."""
    return _allocate(groups, [len(group) for group in groups], share)


def split_groups(
    groups: Sequence[Ints], held_out: Sequence[int], evaluation: EvaluationConfig
) -> Split:
    """The first ``held_out`` subjects of each group test, the next ones validate, the rest train.

    The share of validation subjects is ``evaluation.validation`` of the whole group.

    Raises:
        CheckFailed: a part is empty (the test part may be, where no subject is to be held out).
    """
    remaining = [len(group) - n for group, n in zip(groups, held_out, strict=True)]
    validation = _allocate(groups, remaining, evaluation.validation)
    test, valid, train = [], [], []
    for group, n_test, n_valid in zip(groups, held_out, validation, strict=True):
        test.append(group[:n_test])
        valid.append(group[n_test : n_test + n_valid])
        train.append(group[n_test + n_valid :])
    split = Split(train=_merge(train), valid=_merge(valid), test=_merge(test))
    lacks_test = any(held_out) and not len(split.test)
    if not len(split.train) or not len(split.valid) or lacks_test:
        raise too_few_subjects(sum(map(len, groups)), evaluation)
    return split


def too_few_subjects(subjects: int, evaluation: EvaluationConfig) -> CheckFailed:
    """The error for a cohort that is too small for the protocol."""
    return CheckFailed(
        f"{subjects} subjects cannot be split into a training, a validation and a test part",
        where=f"evaluation {evaluation.name}: {evaluation.protocol.value}, test {evaluation.test}, "
        f"validation {evaluation.validation}, folds {evaluation.folds}",
        todo="use a larger cohort, smaller shares or fewer folds",
    )


def _merge(parts: Sequence[Ints]) -> Ints:
    return np.sort(np.concatenate(parts))


def _order_by_hash(subjects: Ints, salt: str) -> Ints:
    """The subjects, which ascend, in the order of their salted hashes."""
    hashes = (
        blake2b(f"{salt}:{subject}".encode(), digest_size=8).digest()
        for subject in subjects.tolist()
    )
    keys = np.array([int.from_bytes(h) for h in hashes], np.uint64)
    return np.asarray(subjects[np.argsort(keys, kind="stable")])


def _allocate(groups: Sequence[Ints], available: Sequence[int], share: float) -> list[int]:
    """Subjects of each group for a part: ``share`` of the group, ``available`` at most.

    Where this rounds to none at all, one subject comes from the group with most available.
    """
    counts = [
        min(int(share * len(group) + 0.5), limit)
        for group, limit in zip(groups, available, strict=True)
    ]
    if not any(counts) and any(available):
        counts[int(np.argmax(available))] = 1
    return counts
