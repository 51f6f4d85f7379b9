"""Windows: what was known at each step of each stay, as model-ready sequences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from flowsheet.api._extract import Extract
from flowsheet.api._html import describe
from flowsheet.compose import load
from flowsheet.config import (
    EvaluationConfig,
    ExperimentConfig,
    FeaturesConfig,
    TaskConfig,
    validate_config,
)
from flowsheet.errors import UsageError
from flowsheet.lifecycle.experiment.prepare import build_extract_windows, make_subject_table
from flowsheet.lifecycle.experiment.training_memory import fits_in_memory
from flowsheet.prediction.model_package import InputColumns
from flowsheet.state.json_files import read_json
from flowsheet.windows.censoring import weight_rows
from flowsheet.windows.grid import Grid
from flowsheet.windows.protocol import make_folds
from flowsheet.windows.sequences import Sequences


@dataclass(frozen=True, repr=False)
class Windows:
    """The sequences of some stays: S stays, N rows (one for each step), F inputs.

    Examples:
        >>> import flowsheet as fs
        >>> ward = fs.ingest("simulated_small", stays=60)
        >>> windows = fs.windows(ward, features="vitals_only")
        >>> len(windows), len(windows.y) == windows.to_polars().height
        (60, True)
    """

    sequences: Sequences
    task: TaskConfig
    features: FeaturesConfig
    columns: InputColumns
    extract: Extract
    subgroups: pl.DataFrame

    def __len__(self) -> int:
        """The number of stays."""
        return len(self.sequences)

    @property
    def feature_names(self) -> list[str]:
        """The names of the F inputs."""
        return [feature.name for feature in self.sequences.features]

    @property
    def y(self) -> np.ndarray[Any, np.dtype[np.int8]]:
        """The response of every row, shape (N,); meaningless where ``scored`` is false."""
        return np.asarray(self.sequences.y)

    def to_polars(self) -> pl.DataFrame:
        """One row a step: ids, time of the prediction, response, and the inputs (not scaled).

        Examples:
            >>> import flowsheet as fs
            >>> ward = fs.ingest("simulated_small", stays=60)
            >>> frame = fs.windows(ward, features="vitals_only").to_polars()
            >>> frame.columns[:5]
            ['stay_id', 'subject_id', 'step', 'time', 'y']
        """
        rows = self.sequences
        keys = pl.DataFrame(
            {
                "stay_id": np.asarray(rows.stay_id)[rows.row_stay],
                "subject_id": np.asarray(rows.subject_id)[rows.row_stay],
                "step": np.asarray(rows.step),
                "y": np.asarray(rows.y),
                "scored": np.asarray(rows.scored),
                "in_state": np.asarray(rows.in_state),
            }
        )
        inputs = pl.DataFrame(np.asarray(rows.x), schema=self.feature_names)
        timed = keys.join(self._times(), on=["stay_id", "step"], how="left", maintain_order="left")
        first = ("stay_id", "subject_id", "step", "time")
        return timed.select(*first, pl.exclude(first)).hstack(inputs)

    def _times(self) -> pl.DataFrame:
        grid = Grid.from_stays(self.extract.stays.collect(), self.task)
        return pl.DataFrame(
            {
                "stay_id": np.repeat(grid.stay_id, np.diff(grid.offsets)),
                "step": grid.steps.astype(np.int32),
                "time": pl.Series(grid.predicted_at).cast(pl.Datetime("us")),
            }
        )

    def split(self, experiment: ExperimentConfig | None = None, **settings: Any) -> Parts:
        """Training, validation and test subjects, as ``fs.split`` does it."""
        if experiment is not None:
            settings = {"evaluation": experiment.evaluation, "seed": experiment.seed, **settings}
        return split(self, **settings)

    def __repr__(self) -> str:
        shape = f"{len(self):,} stays, {self.sequences.rows:,} rows"
        return f"Windows({shape}, {len(self.feature_names)} inputs, task {self.task.name})"

    def _repr_html_(self) -> str:
        return describe(repr(self), {}, self.to_polars().head(5))


class Parts(NamedTuple):
    """The windows of the training, validation and test subjects."""

    train: Windows
    valid: Windows
    test: Windows


def windows(
    extract: Extract,
    task: str | TaskConfig = "next_day",
    features: str | FeaturesConfig = "standard",
) -> Windows:
    """Build the sequences of every stay; they are kept, and not built again.

    Inputs that would take more than their share of the memory are decoded whenever they are read.

    Args:
        extract: the cohort.
        task: a choice (``flowsheet ls tasks``), or its configuration.
        features: a choice (``flowsheet ls features``), or its configuration.

    Examples:
        >>> import flowsheet as fs
        >>> ward = fs.ingest("simulated_small", stays=60)
        >>> fs.windows(ward, task="next_day", features="vitals_only").task.horizon
        1
    """
    if isinstance(task, str):
        task = validate_config(TaskConfig, load("task", task), where=f"task {task}")
    if isinstance(features, str):
        values = load("features", features)
        features = validate_config(FeaturesConfig, values, where=f"features {features}")
    folder = build_extract_windows(extract._extract, task, features).folder
    sequences = Sequences.load(folder / "sequences")
    if fits_in_memory(*sequences.x.shape):
        sequences = sequences.in_memory()
    return Windows(
        sequences=sequences,
        task=task,
        features=features,
        columns=read_json(folder / "columns.json"),
        extract=extract,
        subgroups=pl.read_parquet(folder / "subgroups.parquet"),
    )


def split(
    windows: Windows,
    evaluation: str | EvaluationConfig = "holdout",
    seed: int = 1,
    **settings: Any,
) -> Parts:
    """Split the windows by subject, reproducibly: the split that ``fs.run`` makes.

    Args:
        windows: of all stays.
        evaluation: a choice (``flowsheet ls evaluations``), or its configuration.
        seed: of the split.
        settings: of the evaluation that differ, such as ``test=0.3``.

    Raises:
        UsageError: the protocol has more than one fold.
        CheckFailed: there are too few subjects.

    Examples:
        >>> import flowsheet as fs
        >>> ward = fs.ingest("simulated_small", stays=60)
        >>> train, valid, test = fs.split(fs.windows(ward, features="vitals_only"), seed=2)
        >>> len(train) > len(test) > 0
        True
    """
    config = read_evaluation(evaluation, settings)
    subjects = make_subject_table(windows.extract._extract, windows.sequences)
    folds = make_folds(subjects, config, seed)
    if len(folds) != 1:
        raise UsageError(
            f"the protocol {config.protocol.value} has {len(folds)} folds",
            where=f"evaluation {config.name}",
            todo='use fs.run for it, or split with "holdout"',
        )
    chosen = folds[0].split
    train = windows.sequences.select_subjects(chosen.train)
    held_out = [
        weight_rows(windows.sequences.select_subjects(part), train, windows.task)
        for part in (chosen.valid, chosen.test)
    ]
    return Parts(*(replace(windows, sequences=part) for part in (train, *held_out)))


def read_evaluation(
    evaluation: str | EvaluationConfig, settings: dict[str, Any]
) -> EvaluationConfig:
    """The configuration of an evaluation with some settings changed.

    Raises:
        UsageError: a choice or setting is unknown.
    """
    if isinstance(evaluation, EvaluationConfig):
        values = evaluation.model_dump()
    else:
        values = load("evaluation", evaluation)
    where = f"evaluation {values['name']}"
    return validate_config(EvaluationConfig, {**values, **settings}, where=where)
