"""What cross-validation hands over: for each fold the subjects held out, and what was said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flowsheet.errors import CheckFailed
from flowsheet.typing import Bools, Floats, Ints
from flowsheet.windows.sequences import Sequences


@dataclass(frozen=True)
class FoldPredictions:
    """One fold of one repetition. Nothing in it may have seen the held-out subjects."""

    repeat: int
    """Counted from 0."""
    fold: int
    """Counted from 0, anew in each repetition."""
    subjects: Ints
    """(s,) ids of the held-out subjects."""
    learned_from: int
    """Number of subjects that fitting, tuning and the choice of thresholds saw."""
    predictions: Mapping[str, Floats]
    """For each model the probability of every row of ``sequences.select_subjects(subjects)``, shape (n,)."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """For each model the probability from which on it rings, chosen on this fold's development subjects."""


@dataclass(frozen=True)
class ModelPredictions:
    """What one model said of every row, shapes (N,)."""

    p: Floats
    alarm: Bools | None = None


def check_folds(sequences: Sequences, folds: Sequence[FoldPredictions]) -> None:
    """Every repetition holds out every subject once, and all folds speak of the same models.

    Raises:
        CheckFailed: they do not; says which fold, and what is amiss.
    """
    if not folds:
        raise CheckFailed(
            "there is no fold to evaluate",
            where="cross-validation",
            todo="hand over at least two folds",
        )
    models, everybody = set(folds[0].predictions), np.unique(sequences.subject_id)
    for fold in folds:
        _check_shapes(sequences, fold, models)
    for repeat in sorted({fold.repeat for fold in folds}):
        held = np.sort(np.concatenate([fold.subjects for fold in folds if fold.repeat == repeat]))
        if not np.array_equal(held, everybody):
            raise CheckFailed(
                f"repetition {repeat} holds out {len(np.unique(held)):,} of {len(everybody):,} subjects"
                f" {len(held):,} times in all",
                where=f"repetition {repeat}",
                todo="each repetition must hold out every subject exactly once",
            )


def _check_shapes(sequences: Sequences, fold: FoldPredictions, models: set[str]) -> None:
    where = f"repetition {fold.repeat}, fold {fold.fold}"
    if set(fold.predictions) != models:
        raise CheckFailed(
            f"models {sorted(fold.predictions)} where other folds have {sorted(models)}",
            where=where,
            todo="every model must predict in every fold",
        )
    rows = int(np.isin(sequences.subject_id, fold.subjects) @ sequences.lengths)
    for model, p in fold.predictions.items():
        if p.shape != (rows,):
            raise CheckFailed(
                f"{model} gave {p.size:,} probabilities for {rows:,} rows",
                where=where,
                todo="one probability for every row of sequences.select_subjects(fold.subjects), scored or not",
            )


def rows_of(sequences: Sequences, fold: FoldPredictions) -> Bools:
    """The rows of the held-out subjects, shape (N,)."""
    return np.repeat(np.isin(sequences.subject_id, fold.subjects), sequences.lengths)


def rounds(
    sequences: Sequences, folds: Sequence[FoldPredictions]
) -> list[dict[str, ModelPredictions]]:
    """For each repetition what every model said of every row when its subject was held out."""
    return [
        _round(sequences, [f for f in folds if f.repeat == r])
        for r in sorted({f.repeat for f in folds})
    ]


def _round(sequences: Sequences, folds: Sequence[FoldPredictions]) -> dict[str, ModelPredictions]:
    found: dict[str, ModelPredictions] = {}
    masks = [rows_of(sequences, fold) for fold in folds]
    for model in sorted(folds[0].predictions):
        p, alarm = np.zeros(sequences.rows), np.zeros(sequences.rows, np.bool_)
        for fold, rows in zip(folds, masks, strict=True):
            p[rows] = fold.predictions[model]
            alarm[rows] = fold.predictions[model] >= fold.thresholds.get(model, np.inf)
        rings = all(model in fold.thresholds for fold in folds)
        found[model] = ModelPredictions(p, alarm if rings else None)
    return found
