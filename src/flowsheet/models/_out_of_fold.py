"""Predictions of development subjects by models that were not fitted on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from flowsheet.models.base import Context
from flowsheet.typing import Bools, Floats, Ints, Labels
from flowsheet.windows.sequences import Sequences
from flowsheet.windows.split import group_by_event


class Refittable(Protocol):
    """A fitted model that can be fitted again on other subjects."""

    def refit(self, train: Sequences, valid: Sequences, context: Context) -> Self:
        """A new one with the same parameters."""

    def predict_log_odds(self, sequences: Sequences) -> Floats:
        """Log odds of every row, shape (N,)."""


def assign_folds(train: Sequences, valid: Sequences, folds: int, seed: int) -> tuple[Ints, Ints]:
    """The fold of each training stay and of each validation stay.

    All stays of a subject are in one fold; subjects with and without the event are divided alike.

    Args:
        train: Training stays.
        valid: Validation stays.
        folds: How many.
        seed: Another seed gives other folds.
    """
    subjects = np.concatenate([train.subject_id, valid.subject_id])
    has_event = np.concatenate([_has_event(train), _has_event(valid)])
    fold_of = {
        subject: i % folds
        for group in group_by_event(subjects, has_event, f"inner {seed}")
        for i, subject in enumerate(group.tolist())
    }
    fold = np.array([fold_of[subject] for subject in subjects.tolist()], np.int64)
    return fold[: len(train)], fold[len(train) :]


def _has_event(sequences: Sequences) -> Bools:
    is_event = np.asarray(sequences.scored) & (np.asarray(sequences.y) == 1)
    return np.bincount(sequences.row_stay[is_event], minlength=len(sequences)) > 0


def predict_out_of_fold(
    members: Sequence[Refittable],
    train: Sequences,
    valid: Sequences,
    context: Context,
    *,
    folds: int,
) -> tuple[Floats, Labels]:
    """Log odds (n, M) and labels (n,) of the scored rows of all training and validation subjects.

    For each fold the members are fitted again without its subjects: on the other training subjects,
    stopping by the other validation subjects. A fit that was killed resumes after its last fold.

    Args:
        members: Fitted models, whose parameters are kept.
        train: Training stays, inputs as they are.
        valid: Validation stays, inputs as they are.
        context: Of the fit; its checkpoints keep each finished fold.
        folds: How many.
    """
    fold_of_train, fold_of_valid = assign_folds(train, valid, folds, context.seed)
    parts, labels = [], []
    for k in range(folds):
        in_fold = (fold_of_train == k, fold_of_valid == k)
        held_out = [part.take(chosen) for part, chosen in zip((train, valid), in_fold, strict=True)]
        others = (train.take(~in_fold[0]), valid.take(~in_fold[1]))
        context.progress(f"inner fold {k + 1} of {folds}")
        parts.append(_predict_fold(members, others, held_out, context, k))
        labels += [np.asarray(part.y[part.scored]) for part in held_out]
    return np.concatenate(parts), np.concatenate(labels)


def _predict_fold(
    members: Sequence[Refittable],
    others: tuple[Sequences, Sequences],
    held_out: Sequence[Sequences],
    context: Context,
    k: int,
) -> Floats:
    """The log odds of the scored rows of one fold, from its checkpoint if there is one.

    Args:
        members: Fitted models.
        others: Training and validation stays of the other folds.
        held_out: Stays of the fold.
        context: Of the fit.
        k: The fold.
    """
    file = context.checkpoints / f"inner-fold-{k}.npy" if context.checkpoints else None
    if file and file.exists():
        return np.asarray(np.load(file, allow_pickle=False), np.float64)
    own_context = Context(context.seed, threads=context.threads, progress=context.progress)
    columns = []
    for member in members:
        fitted = member.refit(*others, own_context)
        log_odds = [fitted.predict_log_odds(part)[part.scored] for part in held_out]
        columns.append(np.concatenate(log_odds))
    predicted = np.stack(columns, axis=1)
    if file:
        _save(predicted, file)
    return predicted


def _save(array: Floats, file: Path) -> None:
    """Write an array so that the file is there whole or not at all."""
    partial = file.with_suffix(".partial.npy")
    np.save(partial, array, allow_pickle=False)
    partial.replace(file)
