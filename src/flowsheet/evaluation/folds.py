"""The predictions of cross-validation: the held-out subjects of each fold and their predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flowsheet.errors import CheckFailed
from flowsheet.evaluation.alert_policy import AlertPolicy
from flowsheet.typing import Bools, Floats, Ints
from flowsheet.windows.protocol import FoldId
from flowsheet.windows.sequences import Sequences


@dataclass(frozen=True)
class FoldPredictions:
    """The predictions of models that were trained without the held-out subjects of a fold."""

    id: FoldId
    subjects: Ints
    """(s,) ids of the held-out subjects."""
    n_training_subjects: int
    """Number of subjects used for fitting, tuning and the choice of alert policies."""
    predictions: Mapping[str, Floats]
    """By model, the probability of each row of ``sequences.select_subjects(subjects)``, (n,)."""
    policies: Mapping[str, AlertPolicy] = field(default_factory=dict)
    """By model, the alert policy, chosen on the development subjects of this fold."""

    @property
    def location(self) -> str:
        """The fold in an error message."""
        return f"repetition {self.id.repeat}, fold {self.id.fold}"

    def find_rows(self, sequences: Sequences) -> Bools:
        """Which rows of all subjects belong to the held-out ones, shape (N,)."""
        return np.repeat(np.isin(sequences.subject_id, self.subjects), sequences.lengths)


@dataclass(frozen=True)
class ModelPredictions:
    """One model's probability of every row, and whether it raises an alert; shapes (N,)."""

    p: Floats
    is_alert: Bools | None = None


def check_folds(sequences: Sequences, folds: Sequence[FoldPredictions]) -> None:
    """Check that each repetition holds out each subject once, and that all models predict.

    Raises:
        CheckFailed: they do not; the message names the fold and the error.
    """
    if not folds:
        raise CheckFailed(
            "there is no fold to evaluate",
            where="cross-validation",
            todo="pass at least two folds",
        )
    models, subjects = set(folds[0].predictions), np.unique(sequences.subject_id)
    for fold in folds:
        _check_predictions(sequences, fold, models)
    for repeat, repetition in _by_repetition(folds).items():
        held_out = np.sort(np.concatenate([fold.subjects for fold in repetition]))
        if not np.array_equal(held_out, subjects):
            raise CheckFailed(
                f"repetition {repeat} holds out {len(np.unique(held_out)):,} of "
                f"{len(subjects):,} subjects, {len(held_out):,} times in total",
                where=f"repetition {repeat}",
                todo="hold out every subject exactly once in each repetition",
            )


def _check_predictions(sequences: Sequences, fold: FoldPredictions, models: set[str]) -> None:
    if set(fold.predictions) != models:
        raise CheckFailed(
            f"models {sorted(fold.predictions)} where other folds have {sorted(models)}",
            where=fold.location,
            todo="every model must predict in every fold",
        )
    n_rows = int(np.isin(sequences.subject_id, fold.subjects) @ sequences.lengths)
    for model, p in fold.predictions.items():
        if p.shape != (n_rows,):
            raise CheckFailed(
                f"{model} has {p.size:,} probabilities for {n_rows:,} rows",
                where=fold.location,
                todo="give one probability for every row of "
                "sequences.select_subjects(fold.subjects), scored or not",
            )


def pool_folds(
    sequences: Sequences, folds: Sequence[FoldPredictions]
) -> list[dict[str, ModelPredictions]]:
    """The out-of-fold predictions of all rows by every model, for each repetition."""
    return [_pool(sequences, repetition) for repetition in _by_repetition(folds).values()]


def _by_repetition(folds: Sequence[FoldPredictions]) -> dict[int, list[FoldPredictions]]:
    repeats = sorted({fold.id.repeat for fold in folds})
    return {repeat: [f for f in folds if f.id.repeat == repeat] for repeat in repeats}


def _pool(sequences: Sequences, folds: Sequence[FoldPredictions]) -> dict[str, ModelPredictions]:
    """The folds of one repetition."""
    masks = [fold.find_rows(sequences) for fold in folds]
    pooled: dict[str, ModelPredictions] = {}
    for model in sorted(folds[0].predictions):
        p = np.zeros(sequences.rows)
        is_alert = np.zeros(sequences.rows, np.bool_)
        for fold, rows in zip(folds, masks, strict=True):
            p[rows] = fold.predictions[model]
            if model in fold.policies:
                is_alert[rows] = fold.policies[model].find_alerts(fold.predictions[model])
        has_policy = all(model in fold.policies for fold in folds)
        pooled[model] = ModelPredictions(p, is_alert if has_policy else None)
    return pooled
