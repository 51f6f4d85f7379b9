"""What the stages of an experiment take of disk and memory, estimated before they begin.

The figures are sums over stays: nothing is allocated for each row, however many there would be.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import make_source
from flowsheet.cohort.schema import Tables, empty_table
from flowsheet.cohort.sources.base import SourceSize
from flowsheet.config import ExperimentConfig, TaskConfig
from flowsheet.evaluation.metrics import select_metrics
from flowsheet.lifecycle.experiment.extract_batches import STAYS_PER_BATCH
from flowsheet.lifecycle.experiment.training_memory import PROCESS_BYTES, training_memory
from flowsheet.lifecycle.experiment.window_shards import SHARD, WindowsRecipe
from flowsheet.lifecycle.runtime.resources import check_memory
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.state.capacity import check_disk_space
from flowsheet.state.store import Store
from flowsheet.typing import Ints
from flowsheet.windows.build import collect_vocabulary, list_features
from flowsheet.windows.grid import Grid
from flowsheet.windows.shards import BLOCK_ROWS

_VALUE_BYTES = 4
"""Of an input in memory, a float32."""
_BUILDING_COPIES = 6
"""Of a block of rows while windows are built."""
_STORED_VALUE_BYTES = 0.2
"""In compressed shards; measured on hourly rows: 0.1 of 785 columns, 0.19 of 1,725 columns."""
_STORED_ROW_BYTES = 50
"""Target, marks, step and response history of a row, beside its inputs."""
_SCORE_BYTES = 12
"""Of a row in the file of scores; measured: 7 to 11."""
_SCORING_COPIES = 4
_RESAMPLED_VALUE_BYTES = 3 * 8
"""The metric's draws of a resample in batches, joined, and their differences between models."""
_SUBSETS = 12
"""Subsets of which intervals are computed, with new onsets and a few subgroups."""
LESS_DATA = (
    "ask for fewer columns (features), longer steps (task.step_hours), fewer rows (task.max_steps) "
    "or a part of the stays"
)
_STAY_COLUMNS = (
    "stay_id",
    "subject_id",
    "admitted_at",
    "discharged_at",
    "observed_from",
    "died_at",
    "comfort_measures_at",
)


class WindowsSize(NamedTuple):
    """The size of an experiment's windows."""

    rows: int
    columns: int

    @property
    def bytes_in_memory(self) -> int:
        """Of the inputs as one array."""
        return self.rows * self.columns * _VALUE_BYTES

    @property
    def bytes_on_disk(self) -> int:
        """Of the stored windows."""
        return round(self.rows * (self.columns * _STORED_VALUE_BYTES + _STORED_ROW_BYTES))

    def __str__(self) -> str:
        return f"{self.rows:,} rows x {self.columns:,} columns"


def check_experiment(config: ExperimentConfig) -> None:
    """Check that an experiment fits, as far as its size is known before its records are read.

    What the store already has is not counted twice.

    Raises:
        CheckFailed: the windows, a training or the evaluation do not fit this machine.
    """
    source = make_source(config.cohort)
    check_resamples(config)
    size = source.estimate_size()
    if size is None:
        return
    features = list_features(
        config.features, source.variables, source.drugs, collect_vocabulary(_tables_of(None))
    )
    windows = WindowsSize(estimate_rows(size, config.task), len(features))
    _check_windows_disk(windows, replaced=_stored_bytes("windows") + _stored_bytes(SHARD))
    check_training(windows, config)


def estimate_rows(size: SourceSize, task: TaskConfig) -> int:
    """About how many rows that many stay-hours have on the task's grid."""
    rows = size.hours / task.step_hours + size.stays / 2  # the last step of a stay is begun
    limits = [rows]
    if task.max_steps is not None:
        limits.append(size.stays * task.max_steps)
    if task.at_hours is not None:
        limits.append(size.stays * task.at_hours / task.step_hours)
    return round(min(limits))


def measure_windows(extract: Extract, recipe: WindowsRecipe) -> WindowsSize:
    """The size of the windows of an extract, from its table of stays."""
    stays = extract.scan("stays").collect()
    columns = list_features(recipe.features, recipe.variables, recipe.drugs, recipe.vocabulary)
    return WindowsSize(Grid.from_stays(stays, recipe.task).rows, len(columns))


def check_windows(extract: Extract, recipe: WindowsRecipe) -> None:
    """Check that the windows of an extract can be built and stored here.

    Shards of the same recipe, such as those that a killed run has built, are not counted twice.

    Raises:
        CheckFailed: they do not fit.
    """
    windows = measure_windows(extract, recipe)
    _check_windows_disk(windows, replaced=_stored_bytes(SHARD, recipe.shard_names))
    rows = min(windows.rows, BLOCK_ROWS)
    check_memory(
        f"{windows} are built, {rows:,} rows at a time", estimate_building(windows), LESS_DATA
    )


def estimate_building(windows: WindowsSize) -> int:
    """Bytes that the process takes which builds windows, or one of their shards."""
    block = WindowsSize(min(windows.rows, BLOCK_ROWS), windows.columns)
    return PROCESS_BYTES + _BUILDING_COPIES * block.bytes_in_memory


def check_training(windows: WindowsSize, config: ExperimentConfig) -> None:
    """Check that one training can fit, where it runs on this machine.

    How many columns have values is known when the windows are built; then it is checked again.

    Raises:
        CheckFailed: it does not fit.
    """
    compute = config.compute
    if compute.pool is None and compute.runner == "process":
        needed = training_memory(*windows, filled=0, compute=compute)
        check_memory(f"a training on {windows}", needed, LESS_DATA)


def check_resamples(config: ExperimentConfig) -> None:
    """Check that the resampled metrics fit.

    Raises:
        CheckFailed: they do not.
    """
    evaluation = config.evaluation
    metrics = select_metrics(evaluation.operating_points, evaluation.metric)
    values = evaluation.resamples * len(config.models) * len(metrics) * _SUBSETS
    check_memory(
        f"{evaluation.resamples:,} resamples of {len(metrics)} metrics of {len(config.models)} "
        "models",
        PROCESS_BYTES + values * _RESAMPLED_VALUE_BYTES,
        "fewer evaluation.resamples, models, or evaluation.operating_points",
    )


def check_scoring(extract: Extract, package: ModelPackage, folders: Iterable[Path]) -> None:
    """Check that the scores of an extract, and its largest batch of stays, fit.

    Args:
        extract: what is scored.
        package: the model.
        folders: where the scores are written.

    Raises:
        CheckFailed: they do not fit.
    """
    lengths = _stay_lengths(extract, package)
    rows = int(lengths.sum())
    ways_out = "score a part of the stays (an extract of a site, or of fewer days)"
    for folder in folders:
        check_disk_space(f"scores of {rows:,} steps", rows * _SCORE_BYTES, folder, ways_out)
    batch = _largest_batch(lengths, package)
    check_memory(
        f"{STAYS_PER_BATCH:,} stays are scored at a time, up to {batch}",
        PROCESS_BYTES + _SCORING_COPIES * batch.bytes_in_memory,
        "score shorter stays, or use a model with fewer columns or longer steps",
    )


def estimate_scoring(extract: Extract, package: ModelPackage) -> int:
    """Bytes that the process takes which scores the largest batch of an extract's stays."""
    batch = _largest_batch(_stay_lengths(extract, package), package)
    return PROCESS_BYTES + _SCORING_COPIES * batch.bytes_in_memory


def _stay_lengths(extract: Extract, package: ModelPackage) -> Ints:
    """The number of steps of each stay, by ``stay_id``."""
    stays = extract.scan("stays").select(_STAY_COLUMNS).sort("stay_id").collect()
    return Grid.from_stays(stays, package.task).lengths


def _largest_batch(lengths: Ints, package: ModelPackage) -> WindowsSize:
    starts = np.arange(0, len(lengths), STAYS_PER_BATCH)
    largest = int(np.add.reduceat(lengths, starts).max()) if len(lengths) else 0
    columns = package.columns
    features = list_features(
        package.features, columns["variables"], columns["drugs"], columns["vocabulary"]
    )
    return WindowsSize(largest, len(features))


def _check_windows_disk(windows: WindowsSize, replaced: int = 0) -> None:
    check_disk_space(
        f"{windows} of windows",
        windows.bytes_on_disk,
        Store.open().root,
        f"{LESS_DATA}, or use a larger disk (FLOWSHEET_HOME, FLOWSHEET_STORE)",
        replaced=replaced,
    )


def _stored_bytes(kind: str, names: str = "*") -> int:
    files = (Store.open().root / kind).glob(f"{names}/**/*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _tables_of(stays: pl.DataFrame | None) -> Tables:
    """Tables with these stays alone."""
    others = {name: empty_table(name) for name in ("events", "treatments", "episodes")}
    return Tables(stays=empty_table("stays") if stays is None else stays, **others)
