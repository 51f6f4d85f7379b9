"""Evaluate all models on the same held-out rows: predictions and evidence of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from flowsheet.config import EvaluationConfig, ExperimentConfig, TaskConfig
from flowsheet.evaluation.draws import EvaluationDraws, join_draws
from flowsheet.evaluation.evidence import Evidence, evaluate, evaluate_folds
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
from flowsheet.lifecycle.experiment.resamples import ResamplePiece, plan_pieces, resample_piece
from flowsheet.lifecycle.experiment.stage import Stage, is_complete, run_stage
from flowsheet.lifecycle.experiment.train import load_params, load_policy, load_probabilities
from flowsheet.models.base import list_titles
from flowsheet.plugins import plugin_code
from flowsheet.state.hashing import digest
from flowsheet.windows.censoring import weight_rows

VERSION = 14
"""Increase it when the same predictions give different evidence."""


def evaluate_models(
    config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels
) -> Stage:
    """Evaluate an experiment's models on the test subjects.

    Alert policies are chosen on the validation subjects. Of replicates, which have different
    patients, only the first is evaluated here.
    """
    pieces = plan_resamples(config, plan, trained)

    def build(folder: Path) -> None:
        if pieces:
            recorded = save_predictions(config, plan, trained)
            predictions = Predictions.load(recorded.folder)
            stages = [resample_piece(config, recorded, piece) for piece in pieces]
            draws = join_draws([EvaluationDraws.load(stage.folder) for stage in stages])
        else:
            predictions = collect_predictions(_list_folds(config, plan), trained)
            draws = None
        predictions.save(folder)
        titles = title_models(config, trained)
        evidence = evaluate_predictions(
            predictions, config.task, config.evaluation, config.seed, titles, draws=draws
        )
        evidence.save(folder)

    return run_stage("evidence", evidence_key(config, plan, trained), build)


def evidence_key(config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels) -> str:
    """Digest of everything that the evidence depends on."""
    training_keys = {
        fold.name: {model: stage.key for model, stage in trained[fold.name].items()}
        for fold in _list_folds(config, plan)
    }
    return digest(
        {
            "version": VERSION,
            "models": training_keys,
            "evaluation": config.evaluation.model_dump(
                mode="json", exclude={"name", "show_patients"}
            ),
            "seed": config.seed,
            "titles": title_models(config, trained),
            **plugin_code(*(metric for _, metric in METRICS)),
        }
    )


def plan_resamples(
    config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels
) -> list[ResamplePiece]:
    """The pieces in which the evidence is resampled; none: by :func:`evaluate_models` itself."""
    if is_complete("evidence", evidence_key(config, plan, trained)):
        return []
    rows = count_held_out(config, plan, trained)
    models = list(trained[plan.first_fold.name])
    return plan_pieces(rows, models, config.evaluation.resamples, config.compute)


def count_held_out(config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels) -> int:
    """The number of held-out rows, of all repetitions."""
    first_models = [next(iter(trained[fold.name].values())) for fold in _list_folds(config, plan)]
    return sum(len(load_probabilities(stage, "test")) for stage in first_models)


def save_predictions(
    config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels
) -> Stage:
    """The held-out predictions as a stage, which the processes that resample read."""

    def build(folder: Path) -> None:
        collect_predictions(_list_folds(config, plan), trained).save(folder)

    return run_stage("predictions", evidence_key(config, plan, trained), build)


def _list_folds(config: ExperimentConfig, plan: ExperimentPlan) -> list[FoldSpec]:
    """Without replicates, which have other patients."""
    return [fold for fold in plan.folds if fold.config.seed == config.seed]


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
    *,
    draws: EvaluationDraws | None = None,
) -> Evidence:
    """Evaluate recorded predictions; nothing else of the experiment is needed.

    Args:
        predictions: held-out rows of one fold, or of all folds of a cross-validation.
        task: the task that was predicted.
        evaluation: metric of the leaderboard, number of resamples and confidence level.
        seed: of the resamples.
        titles: by model what people call it; a model without one by its name.
        draws: what was resampled in pieces; None: everything is resampled here.
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
            draws=draws,
        )
    return evaluate_folds(
        rows_to_sequences(predictions.first_repeat),
        predictions.list_folds(),
        evaluation,
        seed,
        task=task,
        subgroups=predictions.subgroups,
        titles=titles,
        draws=draws,
    )


def load_evidence(stage: Stage) -> Evidence:
    """The evidence in a stage of :func:`evaluate_models`."""
    return Evidence.load(stage.folder)
