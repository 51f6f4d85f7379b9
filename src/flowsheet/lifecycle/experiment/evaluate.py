"""Evaluate all models on the same held-out rows: predictions and evidence of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from flowsheet.config import EvaluationConfig, ExperimentConfig, TaskConfig
from flowsheet.evaluation.evidence import Evidence, evaluate, evaluate_folds
from flowsheet.evaluation.folds import FoldPredictions
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.summaries import complete_titles
from flowsheet.lifecycle.experiment.folds import ExperimentPlan, FoldSpec, TrainedModels
from flowsheet.lifecycle.experiment.predictions import (
    PredictedFold,
    Predictions,
    make_rows,
    model_probabilities,
    rows_to_sequences,
)
from flowsheet.lifecycle.experiment.stage import Stage, run_stage
from flowsheet.lifecycle.experiment.train import load_params, load_policy, load_probabilities
from flowsheet.models.base import list_titles
from flowsheet.plugins import plugin_code
from flowsheet.state.hashing import digest
from flowsheet.windows.censoring import weight_rows

VERSION = 13
"""Increase it when the same predictions give different evidence."""


def evaluate_models(
    config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels
) -> Stage:
    """Evaluate an experiment's models on the test subjects.

    Alert policies are chosen on the validation subjects. Of replicates, which have different
    patients, only the first is evaluated here.
    """
    folds = [fold for fold in plan.folds if fold.config.seed == config.seed]
    training_keys = {
        fold.name: {model: stage.key for model, stage in trained[fold.name].items()}
        for fold in folds
    }
    titles = title_models(config, trained)
    key = digest(
        {
            "version": VERSION,
            "models": training_keys,
            "evaluation": config.evaluation.model_dump(
                mode="json", exclude={"name", "show_patients"}
            ),
            "seed": config.seed,
            "titles": titles,
            **plugin_code(*(metric for _, metric in METRICS)),
        }
    )

    def build(folder: Path) -> None:
        predictions = collect_predictions(folds, trained)
        predictions.save(folder)
        evidence = evaluate_predictions(
            predictions, config.task, config.evaluation, config.seed, titles
        )
        evidence.save(folder)

    return run_stage("evidence", key, build)


def title_models(config: ExperimentConfig, trained: TrainedModels) -> dict[str, str]:
    """What people call each model, by the parameters that all of its fits have in common."""
    models = {}
    for name, model in config.models.items():
        fits = [load_params(stages[name]) for stages in trained.values() if name in stages]
        first = fits[0] if fits else {}
        common = {k: value for k, value in first.items() if all(f[k] == value for f in fits)}
        models[name] = model.model_copy(update={"params": {**model.params, **common}})
    return complete_titles(list(models), list_titles(models))


def collect_predictions(folds: Sequence[FoldSpec], trained: TrainedModels) -> Predictions:
    """The held-out predictions of all models in all of these folds, with their alert policies."""
    tables = []
    predicted_folds = []
    for fold in folds:
        train, valid, test = fold.data.load_parts()
        test = weight_rows(test, train, fold.config.task)
        policies = {}
        probabilities = {}
        for model, stage in trained[fold.name].items():
            policies[model] = load_policy(stage)
            probabilities[model] = load_probabilities(stage, "test")
        tables.append(make_rows(test, probabilities, fold.id))
        predicted_folds.append(
            PredictedFold(
                id=fold.id,
                n_training_subjects=len(np.union1d(train.subject_id, valid.subject_id)),
                policies=policies,
            )
        )
    subgroups = pl.read_parquet(folds[0].data.windows.folder / "subgroups.parquet")
    return Predictions(pl.concat(tables), subgroups, tuple(predicted_folds))


def evaluate_predictions(
    predictions: Predictions,
    task: TaskConfig,
    evaluation: EvaluationConfig,
    seed: int,
    titles: Mapping[str, str] | None = None,
) -> Evidence:
    """Evaluate recorded predictions; nothing else of the experiment is needed.

    Args:
        predictions: held-out rows of one fold, or of all folds of a cross-validation.
        task: the task that was predicted.
        evaluation: metric of the leaderboard, number of resamples and confidence level.
        seed: of the resamples.
        titles: by model what people call it; a model without one by its name.
    """
    if len(predictions.folds) == 1:
        rows = predictions.rows.sort("stay_id", "step")
        return evaluate(
            rows_to_sequences(rows),
            model_probabilities(rows),
            evaluation,
            seed,
            task=task,
            policies=predictions.folds[0].policies,
            subgroups=predictions.subgroups,
            titles=titles,
        )
    first_repeat = predictions.rows.filter(repeat=predictions.folds[0].id.repeat)
    return evaluate_folds(
        rows_to_sequences(first_repeat),
        [_fold_predictions(predictions, fold) for fold in predictions.folds],
        evaluation,
        seed,
        task=task,
        subgroups=predictions.subgroups,
        titles=titles,
    )


def _fold_predictions(predictions: Predictions, fold: PredictedFold) -> FoldPredictions:
    rows = predictions.fold_rows(fold).sort("stay_id", "step")
    return FoldPredictions(
        fold.id,
        subjects=rows["subject_id"].unique().sort().to_numpy(),
        n_training_subjects=fold.n_training_subjects,
        predictions=model_probabilities(rows),
        policies=fold.policies,
    )


def load_evidence(stage: Stage) -> Evidence:
    """The evidence in a stage of :func:`evaluate_models`."""
    return Evidence.load(stage.folder)
