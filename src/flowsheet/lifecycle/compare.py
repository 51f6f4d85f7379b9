"""Every model's probabilities on the same held-out rows -> evidence and a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flowsheet.config import ExperimentConfig
from flowsheet.evaluation.evidence import Evidence, evaluate
from flowsheet.evaluation.threshold import choose_threshold
from flowsheet.home import digest
from flowsheet.lifecycle.stage import Stage, stage
from flowsheet.lifecycle.train import Data


def compare(config: ExperimentConfig, data: Data, trained: Mapping[str, Stage]) -> Stage:
    """The evidence of an experiment: alarm thresholds from the validation subjects, figures from the held-out ones."""
    key = digest(
        {
            "models": {name: made.key for name, made in trained.items()},
            "evaluation": config.evaluation.model_dump(mode="json", exclude={"name"}),
            "seed": config.seed,
        }
    )

    def make(folder: Path) -> None:
        _, valid, test = data.parts()
        thresholds = {
            name: choose_threshold(valid, _probabilities(made, "valid"), config.task, config.evaluation)
            for name, made in trained.items()
        }
        evaluate(
            test,
            {name: _probabilities(made, "test") for name, made in trained.items()},
            config.evaluation,
            config.seed,
            task=config.task,
            thresholds=thresholds,
            subgroups=pl.read_parquet(data.windows.folder / "subgroups.parquet"),
        ).save(folder)

    return stage("evidence", key, make)


def evidence(made: Stage) -> Evidence:
    """The evidence that :func:`compare` made."""
    return Evidence.load(made.folder)


def _probabilities(made: Stage, part: str) -> NDArray[np.float64]:
    return np.asarray(np.load(made.folder / f"{part}.npy", allow_pickle=False), np.float64)
