"""Resample the metrics of an experiment in the worker processes of a flow run."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.pieces import Pieces, build_pieces
from flows.retries import RETRY_ON_OUTAGE
from flows.shared_store import check_shared_store
from flows.trainings import Upstream
from flowsheet.config import ExperimentConfig
from flowsheet.lifecycle.experiment import evaluate, resamples
from flowsheet.lifecycle.experiment.folds import ExperimentPlan, TrainedModels
from flowsheet.lifecycle.experiment.resamples import ResamplePiece, piece_memory
from flowsheet.lifecycle.experiment.stage import Stage


@task(cache_policy=NO_CACHE, task_run_name="resample-{piece.name}", **RETRY_ON_OUTAGE)
def resample_piece(config: ExperimentConfig, predictions: Stage, piece: ResamplePiece) -> Stage:
    """Compute every metric of a model in some of the resamples.

    Args:
        config: the experiment.
        predictions: stage of the held-out predictions.
        piece: the model and its resamples.
    """
    check_shared_store(predictions)
    return resamples.resample_piece(config, predictions, piece)


def resample_in_workers(
    config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels, upstream: Upstream
) -> None:
    """Resample what the evidence needs, where several processes are worth it.

    Args:
        config: the experiment.
        plan: all its folds.
        trained: its models.
        upstream: the tasks that trained them.
    """
    planned = evaluate.plan_resamples(config, plan, trained)
    if not planned:
        return
    predictions = evaluate.save_predictions(config, plan, trained)
    pieces = Pieces(
        task=resample_piece,
        parameters=[
            {"config": config, "predictions": predictions, "piece": piece} for piece in planned
        ],
        memory=piece_memory(evaluate.count_held_out(config, plan, trained)),
        step="evaluate",
        name="pieces of the resamples",
    )
    build_pieces(pieces, config.compute, upstream)
