"""The resamples of an evaluation in pieces, each a stage of its own that any process can build.

A piece is some of the resamples of one model. All pieces together give the same figures as one
process, to the last bit: the draws depend on the seed and the number of subjects only, and the
batches in which they are weighted do not depend on the pieces.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

from flowsheet.config import CLOCK, ComputeConfig, ExperimentConfig, FrozenModel
from flowsheet.evaluation.bootstrap import MAX_BATCH_RESAMPLES, ResamplePart
from flowsheet.evaluation.scored_models import ScoredModels, score_folds, score_holdout
from flowsheet.lifecycle.experiment.predictions import (
    Predictions,
    model_probabilities,
    rows_to_sequences,
)
from flowsheet.lifecycle.experiment.stage import Stage, run_stage
from flowsheet.lifecycle.experiment.training_memory import PROCESS_BYTES
from flowsheet.state.hashing import digest
from flowsheet.state.memory import usable_memory

MIN_CELLS = 100_000_000
"""Held-out rows x resamples x models. What is less takes one process a few seconds: 176,000
rows and 1,000 resamples of one model take up to 16 s of processor time."""
PIECES_PER_WORKER = 2
"""So that no worker waits long for the last one."""
_ROW_BYTES = 1_200
"""Of a held-out row while one model's metrics are resampled; measured: up to 1,200."""


class ResamplePiece(FrozenModel):
    """Some of the resamples of one model."""

    model: str
    part: ResamplePart

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.model} {self.part.number + 1} of {self.part.of}"


def plan_pieces(
    rows: int, models: Collection[str], resamples: int, compute: ComputeConfig
) -> list[ResamplePiece]:
    """The pieces into which an evaluation is worth dividing; none: one process is as good.

    Args:
        rows: held-out rows, of all repetitions.
        models: the evaluated models.
        resamples: of the subjects.
        compute: the number of workers, and what starts them.
    """
    workers = 1 if compute.pool else compute.workers
    if compute.runner == "process":
        workers = min(workers, usable_memory() // piece_memory(rows))
    if workers <= 1 or rows * resamples * len(models) < MIN_CELLS:
        return []
    wanted = math.ceil(PIECES_PER_WORKER * workers / len(models))
    parts = min(wanted, math.ceil(resamples / MAX_BATCH_RESAMPLES))
    return [
        ResamplePiece(model=model, part=ResamplePart(number, parts))
        for model in sorted(models)
        for number in range(parts)
    ]


def piece_memory(rows: int) -> int:
    """Bytes that the process of one piece takes at most."""
    return PROCESS_BYTES + _ROW_BYTES * rows


def resample_piece(config: ExperimentConfig, predictions: Stage, piece: ResamplePiece) -> Stage:
    """Compute every metric of a model in some of the resamples.

    Args:
        config: the experiment.
        predictions: stage of the held-out predictions.
        piece: the model and its resamples.
    """

    def build(folder: Path) -> None:
        held_out = Predictions.load(predictions.folder)
        names = {name: name for name in (piece.model, CLOCK) if name in held_out.models}
        scored = _score(held_out.select_models(names), config)
        scored.resample(config.seed, [piece.model], piece.part).save(folder)

    key = digest({"predictions": predictions.key, **piece.model_dump(mode="json")})
    return run_stage("resamples", key, build)


def _score(predictions: Predictions, config: ExperimentConfig) -> ScoredModels:
    if len(predictions.folds) == 1:
        rows = predictions.rows.sort("stay_id", "step")
        return score_holdout(
            rows_to_sequences(rows),
            model_probabilities(rows),
            config.evaluation,
            task=config.task,
            policies=predictions.folds[0].policies,
            subgroups=predictions.subgroups,
        )
    return score_folds(
        rows_to_sequences(predictions.first_repeat),
        predictions.list_folds(),
        config.evaluation,
        task=config.task,
        subgroups=predictions.subgroups,
    )
