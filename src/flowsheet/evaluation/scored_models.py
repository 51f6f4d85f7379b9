"""The scored rows of some models, before and after anything is resampled."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from flowsheet.cohort.responses.base import find_words
from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.errors import CheckFailed
from flowsheet.evaluation.alert_policy import AlertPolicy
from flowsheet.evaluation.bootstrap import ALL_RESAMPLES, ResamplePart
from flowsheet.evaluation.draws import EvaluationDraws
from flowsheet.evaluation.folds import FoldPredictions, ModelPredictions, check_folds, pool_folds
from flowsheet.evaluation.results import EvaluationResults
from flowsheet.evaluation.subsets import (
    Subset,
    list_new_onset_subgroups,
    list_subsets,
    list_time_subsets,
)
from flowsheet.typing import Floats
from flowsheet.windows.sequences import Sequences


@dataclass(frozen=True)
class ScoredModels:
    """Everything that is computed from the predictions of some models."""

    results: EvaluationResults
    """Of all subsets."""
    groups: EvaluationResults
    """Of the subgroups of patients who are not in the state at prediction."""

    def resample(
        self, seed: int, models: Collection[str] | None = None, part: ResamplePart = ALL_RESAMPLES
    ) -> EvaluationDraws:
        """Everything that is resampled.

        Args:
            seed: of the resamples.
            models: whose values are wanted; None: of all.
            part: the resamples that are wanted.
        """
        return EvaluationDraws(
            self.results.resample(seed, models, part), self.groups.resample(seed, models, part)
        )

    def with_draws(self, draws: EvaluationDraws) -> ScoredModels:
        """The same with the values of all resamples."""
        return ScoredModels(
            self.results.with_draws(draws.results), self.groups.with_draws(draws.groups)
        )


def score_holdout(
    sequences: Sequences,
    predictions: Mapping[str, Floats],
    config: EvaluationConfig,
    *,
    task: TaskConfig | None = None,
    policies: Mapping[str, AlertPolicy] | None = None,
    subgroups: pl.DataFrame | None = None,
) -> ScoredModels:
    """The scored rows of models that predicted all stays once; see ``evidence.evaluate``.

    Args:
        sequences: the held-out stays, N rows.
        predictions: by model the probability of y = 1 of every row, shape (N,).
        config: the metrics, resamples and confidence, and the least number of events.
        task: what was predicted.
        policies: by model the alert policy.
        subgroups: ``stay_id`` and one column for each grouping.

    Raises:
        CheckFailed: a prediction is not a probability, or there is not one for each row.
        UsageError: an operating point of ``config`` is unknown or out of range.
    """
    policies = policies or {}
    by_model: dict[str, ModelPredictions] = {}
    for model, p in sorted(predictions.items()):
        _check_probabilities(model, p, sequences)
        is_alert = policies[model].find_alerts(p) if model in policies else None
        by_model[model] = ModelPredictions(p, is_alert)
    return _score_models(sequences, [by_model], config, task, subgroups)


def score_folds(
    sequences: Sequences,
    folds: Sequence[FoldPredictions],
    config: EvaluationConfig,
    *,
    task: TaskConfig | None = None,
    subgroups: pl.DataFrame | None = None,
) -> ScoredModels:
    """The scored rows of a cross-validation; see ``evidence.evaluate_folds``.

    Args:
        sequences: the stays of all subjects, N rows.
        folds: of all repetitions, in any order.
        config: the metrics, resamples and confidence, and the least number of events.
        task: what was predicted.
        subgroups: ``stay_id`` and one column for each grouping.

    Raises:
        CheckFailed: a prediction is not a probability, or a repetition does not hold out every
            subject once.
        UsageError: an operating point of ``config`` is unknown or out of range.
    """
    check_folds(sequences, folds)
    repetitions = pool_folds(sequences, folds)
    for by_model in repetitions:
        for model, predictions in by_model.items():
            _check_probabilities(model, predictions.p, sequences)
    return _score_models(sequences, repetitions, config, task, subgroups)


def _score_models(
    sequences: Sequences,
    repetitions: Sequence[Mapping[str, ModelPredictions]],
    config: EvaluationConfig,
    task: TaskConfig | None,
    subgroups: pl.DataFrame | None,
) -> ScoredModels:
    subsets = _list_subsets(sequences, subgroups, config, task)
    groups = _list_new_onset_subgroups(sequences, subgroups, config, task)
    return ScoredModels(
        EvaluationResults.from_predictions(sequences, repetitions, subsets, config, task),
        EvaluationResults.from_predictions(sequences, repetitions, groups, config, task),
    )


def _list_subsets(
    sequences: Sequences,
    subgroups: pl.DataFrame | None,
    config: EvaluationConfig,
    task: TaskConfig | None,
) -> list[Subset]:
    if task is not None and not find_words(task.response).is_infection:
        sequences = replace(sequences, before_treatment=None)
    times = list_time_subsets(sequences, config, task, np.asarray(sequences.scored))
    return [*list_subsets(sequences, subgroups), *times]


def _list_new_onset_subgroups(
    sequences: Sequences,
    subgroups: pl.DataFrame | None,
    config: EvaluationConfig,
    task: TaskConfig | None,
) -> list[Subset]:
    rows = np.asarray(sequences.scored) & ~np.asarray(sequences.in_state)
    times = list_time_subsets(sequences, config, task, rows)
    return [*list_new_onset_subgroups(sequences, subgroups), *times]


def _check_probabilities(model: str, p: Floats, sequences: Sequences) -> None:
    if p.shape != (sequences.rows,):
        raise CheckFailed(
            f"{model} has {p.size:,} probabilities for {sequences.rows:,} rows",
            where=f"model {model}",
            todo="predict_proba must return one probability for every row, scored or not",
        )
    wrong = np.flatnonzero(~((p >= 0) & (p <= 1)))
    if len(wrong):
        row = wrong[0]
        stay = sequences.stay_id[np.searchsorted(sequences.offsets, row, side="right") - 1]
        raise CheckFailed(
            f"{len(wrong):,} of {model}'s {len(p):,} predictions are not probabilities; "
            f"the first is {p[row]}",
            where=f"model {model}, stay {stay}, step {sequences.step[row]}",
            todo="predictions must be finite and between 0 and 1: check the model's predict_proba "
            "and its inputs",
        )
