"""Every model's probabilities on the same held-out rows -> predictions and evidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from flowsheet.config import EvaluationConfig, ExperimentConfig, TaskConfig
from flowsheet.evaluation.evidence import Evidence, evaluate
from flowsheet.evaluation.folds import FoldPredictions
from flowsheet.evaluation.threshold import choose_threshold
from flowsheet.lifecycle.experiment.folds import ExperimentPlan, FoldSpec, TrainedModels
from flowsheet.lifecycle.experiment.predictions import (
    PredictedFold,
    Predictions,
    said,
    sequences,
    table,
)
from flowsheet.lifecycle.experiment.stage import Stage, run_stage
from flowsheet.lifecycle.experiment.train import load_probabilities
from flowsheet.state.hashing import digest

VERSION = 4
"""Raise it when the same predictions give other evidence."""


def evaluate_models(
    config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels
) -> Stage:
    """The evidence of an experiment: alarm thresholds from the validation subjects, figures from
    the held-out ones.

    Of replicates, whose wards are different ones, the first is compared here.
    """
    rounds = [each for each in plan.folds if each.config.seed == config.seed]
    key = digest(
        {
            "version": VERSION,
            "models": {
                each.name: {name: made.key for name, made in trained[each.name].items()}
                for each in rounds
            },
            "evaluation": config.evaluation.model_dump(mode="json", exclude={"name"}),
            "seed": config.seed,
        }
    )

    def make(folder: Path) -> None:
        held = collect_predictions(rounds, trained)
        held.save(folder)
        evaluate_predictions(held, config.task, config.evaluation, config.seed).save(folder)

    return run_stage("evidence", key, make)


def collect_predictions(rounds: list[FoldSpec], trained: TrainedModels) -> Predictions:
    """What every model said in these rounds."""
    tables, notes = [], []
    for each in rounds:
        train, valid, test = each.data.load_parts()
        models = trained[each.name]
        thresholds = {
            name: choose_threshold(
                valid, load_probabilities(made, "valid"), each.config.task, each.config.evaluation
            )
            for name, made in models.items()
        }
        heard = {name: load_probabilities(made, "test") for name, made in models.items()}
        tables.append(table(test, heard, each.repeat, each.fold))
        notes.append(
            PredictedFold(
                name=each.name,
                repeat=each.repeat,
                fold=each.fold,
                learned_from=len(np.union1d(train.subject_id, valid.subject_id)),
                thresholds=thresholds,
            )
        )
    subgroups = pl.read_parquet(rounds[0].data.windows.folder / "subgroups.parquet")
    return Predictions(pl.concat(tables), subgroups, tuple(notes))


def evaluate_predictions(
    held: Predictions, task: TaskConfig, evaluation: EvaluationConfig, seed: int
) -> Evidence:
    """The evidence that predictions hold; computed from them alone, so that anybody can do it again."""
    if len(held.folds) == 1:
        rows = held.rows.sort("stay_id", "step")
        heard = {model: said(rows, model) for model in held.models}
        thresholds = held.folds[0].thresholds
        return evaluate(
            sequences(rows),
            heard,
            evaluation,
            seed,
            task=task,
            thresholds=thresholds,
            subgroups=held.subgroups,
        )
    everybody = sequences(held.rows.filter(repeat=held.folds[0].repeat))
    from flowsheet.evaluation.evidence import evaluate_folds

    folds = [_fold(held, note) for note in held.folds]
    return evaluate_folds(everybody, folds, evaluation, seed, task=task, subgroups=held.subgroups)


def _fold(held: Predictions, note: PredictedFold) -> FoldPredictions:
    rows = held.of(note).sort("stay_id", "step")
    return FoldPredictions(
        repeat=note.repeat,
        fold=note.fold,
        subjects=rows["subject_id"].unique().sort().to_numpy(),
        learned_from=note.learned_from,
        predictions={model: said(rows, model) for model in held.models},
        thresholds=note.thresholds,
    )


def load_evidence(made: Stage) -> Evidence:
    """The evidence that :func:`evaluate_models` made."""
    return Evidence.load(made.folder)


def load_predictions(made: Stage) -> Predictions:
    """The predictions that it was computed from."""
    return Predictions.load(made.folder)
