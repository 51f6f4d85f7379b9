"""Held-out predictions of all models: the table that all evidence can be computed from again.

``predictions.parquet`` has a row for each held-out row of each repetition, with the columns repeat,
fold, stay_id, subject_id, step, y, scored, in_state, before_treatment, weight (how many rows the
row stands for in metrics; 0 where it is not scored), and ``p.<model>`` for each model.
``folds.json`` describes the folds; ``subgroups.parquet`` has a row for each stay.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import model_validator

from flowsheet.config import FrozenModel
from flowsheet.config.validation import validate_recorded
from flowsheet.errors import CheckFailed
from flowsheet.evaluation.alert_policy import AlertPolicy, make_policies
from flowsheet.evaluation.folds import FoldPredictions
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Floats
from flowsheet.windows.protocol import FoldId
from flowsheet.windows.sequences import Sequences

_ROW_COLUMNS = ("y", "scored", "in_state", "before_treatment", "weight", "step")
_PREFIX = "p."
PREDICTIONS_TABLE = "held_out_predictions.json"
"""Name of the table of a few predictions, in the format of MLflow's page."""


class PredictedFold(FrozenModel):
    """How the models of one fold were developed."""

    id: FoldId = FoldId()
    n_training_subjects: int
    """Number of training and validation subjects."""
    policies: dict[str, AlertPolicy]
    """{model: alert policy}, chosen on the validation subjects."""

    @model_validator(mode="before")
    @classmethod
    def _read_earlier(cls, values: Any) -> Any:
        """Predictions of earlier releases have a threshold by model."""
        if isinstance(values, Mapping) and "thresholds" in values:
            others = {key: value for key, value in values.items() if key != "thresholds"}
            return {**others, "policies": make_policies(values["thresholds"])}
        return values

    @property
    def thresholds(self) -> dict[str, float]:
        """{model: decision threshold}."""
        return {model: policy.threshold for model, policy in self.policies.items()}


@dataclass(frozen=True)
class Predictions:
    """Held-out rows with every model's probabilities."""

    rows: pl.DataFrame
    subgroups: pl.DataFrame
    folds: tuple[PredictedFold, ...]

    @property
    def models(self) -> list[str]:
        """Names of the models."""
        return [c.removeprefix(_PREFIX) for c in self.rows.columns if c.startswith(_PREFIX)]

    def fold_rows(self, fold: PredictedFold) -> pl.DataFrame:
        """The rows of the fold's held-out subjects, by stay and step."""
        return self.rows.filter(repeat=fold.id.repeat, fold=fold.id.fold)

    @property
    def first_repeat(self) -> pl.DataFrame:
        """The rows of the first repetition, which has every subject's."""
        return self.rows.filter(repeat=self.folds[0].id.repeat)

    def list_folds(self) -> list[FoldPredictions]:
        """The folds of a cross-validation with the predictions of their held-out subjects."""
        folds = []
        for fold in self.folds:
            rows = self.fold_rows(fold).sort("stay_id", "step")
            predicted = FoldPredictions(
                fold.id,
                subjects=rows["subject_id"].unique().sort().to_numpy(),
                n_training_subjects=fold.n_training_subjects,
                predictions=model_probabilities(rows),
                policies=fold.policies,
            )
            folds.append(predicted)
        return folds

    def to_table(self, n_rows: int) -> dict[str, list[Any]]:
        """{column: values} of at most ``n_rows`` rows, evenly spread, for people to look at."""
        rows = self.rows.filter("scored").sort("repeat", "stay_id", "step")
        labels = pl.col("subject_id", "stay_id", "step", "in_state", "y")
        risks = [pl.col(_PREFIX + model).round(4).alias(model) for model in self.models]
        spacing = max(1, math.ceil(rows.height / n_rows))
        return rows.gather_every(spacing).select(labels, *risks).to_dict(as_series=False)

    def targets(self) -> pl.DataFrame:
        """The held-out rows and their labels, without any prediction."""
        return self.rows.select("repeat", "fold", "stay_id", "subject_id", *_ROW_COLUMNS)

    def targets_fingerprint(self) -> str:
        """sha256 of :meth:`targets`: equal for models that were tested on the same rows."""
        is_whole = ~pl.selectors.float()
        return _fingerprint(self.targets().with_columns(is_whole.cast(pl.Int64)))

    def probabilities_fingerprint(self) -> str:
        """sha256 of the models' probabilities."""
        return _fingerprint(self.rows.select(f"^{_PREFIX}.*$"))

    def select_models(self, names: Mapping[str, str]) -> Predictions:
        """The models in ``names`` only, each renamed from its key to its value."""
        columns = {_PREFIX + old: _PREFIX + new for old, new in names.items()}
        rows = self.rows.select(*self.targets().columns, *columns).rename(columns)
        folds = []
        for fold in self.folds:
            policies = {new: fold.policies[old] for old, new in names.items()}
            folds.append(fold.model_copy(update={"policies": policies}))
        return Predictions(rows, self.subgroups, tuple(folds))

    def join_models(self, other: Predictions) -> Predictions:
        """The models of both, which must have predicted the same rows."""
        folds = []
        for fold, other_fold in zip(self.folds, other.folds, strict=True):
            policies = {**fold.policies, **other_fold.policies}
            folds.append(fold.model_copy(update={"policies": policies}))
        probabilities = other.rows.select(f"^{_PREFIX}.*$")
        return Predictions(self.rows.hstack(probabilities), self.subgroups, tuple(folds))

    def add_model(self, name: str, risks: pl.DataFrame, policy: AlertPolicy) -> Predictions:
        """A further model, with its ``risks`` by stay_id and step, and its alert policy.

        Raises:
            CheckFailed: a row has no risk.
        """
        risk = risks.select("stay_id", "step", pl.col("risk").alias(_PREFIX + name))
        rows = self.rows.join(risk, on=["stay_id", "step"], how="left", maintain_order="left")
        missing = rows[_PREFIX + name].null_count()
        if missing:
            raise CheckFailed(
                f"{name} has no prediction for {missing:,} of the {rows.height:,} rows",
                where=f"model {name}",
                todo="let it predict at the same times: the same task",
            )
        folds = [
            fold.model_copy(update={"policies": {**fold.policies, name: policy}})
            for fold in self.folds
        ]
        return Predictions(rows, self.subgroups, tuple(folds))

    def leave_out_subjects(self, subjects: Sequence[int]) -> Predictions:
        """The rows of the other subjects, and the folds that have any."""
        return self.keep_rows(~pl.col("subject_id").is_in(subjects))

    def keep_rows(self, condition: pl.Expr) -> Predictions:
        """The rows that fulfil the condition, and the folds that have any."""
        rows = self.rows.filter(condition)
        ids = set(rows.select("repeat", "fold").unique().iter_rows())
        folds = tuple(fold for fold in self.folds if (fold.id.repeat, fold.id.fold) in ids)
        return Predictions(rows, self.subgroups, folds or self.folds[:1])

    def save(self, folder: Path) -> None:
        """Write the tables to an existing folder."""
        self.rows.write_parquet(folder / "predictions.parquet")
        self.subgroups.write_parquet(folder / "subgroups.parquet")
        write_json(folder / "folds.json", [fold.model_dump() for fold in self.folds])

    @classmethod
    def load(cls, folder: Path) -> Predictions:
        """Read the tables that :meth:`save` wrote.

        Raises:
            CheckFailed: another release wrote them, without a column that this one needs, or no
                row is left.
        """
        entries = read_json(folder / "folds.json")
        rows = pl.read_parquet(folder / "predictions.parquet")
        missing = [column for column in _ROW_COLUMNS if column not in rows.columns]
        if missing:
            raise CheckFailed(
                f"the predictions of another release have no column {', '.join(missing)}",
                where=str(folder / "predictions.parquet"),
                todo="run the experiment again with this release",
            )
        if rows.is_empty():
            raise CheckFailed(
                "no held-out row is left: all were of subjects that were erased",
                where=str(folder / "predictions.parquet"),
                todo="run the experiment again, on other subjects",
            )
        return cls(
            rows=rows,
            subgroups=pl.read_parquet(folder / "subgroups.parquet"),
            folds=tuple(
                validate_recorded(PredictedFold, entry, str(folder / "folds.json"))
                for entry in entries
            ),
        )


def _fingerprint(frame: pl.DataFrame) -> str:
    columns = {c.name: hashlib.sha256(c.to_numpy().tobytes()).hexdigest() for c in frame}
    return digest(columns)


def make_rows(
    sequences: Sequences, probabilities: Mapping[str, Floats], fold_id: FoldId
) -> pl.DataFrame:
    """The rows of one fold's held-out subjects, by stay and step.

    ``probabilities`` has one array of shape (N,) for each model, N being the rows of ``sequences``.
    """
    stay = sequences.row_stay
    columns = {
        "stay_id": np.asarray(sequences.stay_id)[stay],
        "subject_id": np.asarray(sequences.subject_id)[stay],
        **{name: np.asarray(getattr(sequences, name)) for name in _ROW_COLUMNS},
        **{_PREFIX + model: p for model, p in probabilities.items()},
    }
    repeat = pl.lit(fold_id.repeat).alias("repeat")
    fold = pl.lit(fold_id.fold).alias("fold")
    return pl.DataFrame(columns).select(repeat, fold, pl.all()).sort("stay_id", "step")


def rows_to_sequences(rows: pl.DataFrame) -> Sequences:
    """Rows of one repetition as sequences without input features, which evidence does not need."""
    rows = rows.sort("stay_id", "step")
    stays = rows.group_by("stay_id", maintain_order=True).agg(
        pl.col("subject_id").first(), pl.len()
    )
    return Sequences(
        x=np.empty((rows.height, 0), np.float32),
        **{name: rows[name].to_numpy() for name in _ROW_COLUMNS},
        history=np.empty((rows.height, 0), np.float32),
        offsets=np.concatenate([[0], np.cumsum(stays["len"].to_numpy())]).astype(np.int64),
        stay_id=stays["stay_id"].to_numpy(),
        subject_id=stays["subject_id"].to_numpy(),
        features=(),
    )


def model_probabilities(rows: pl.DataFrame) -> dict[str, Floats]:
    """{model: probabilities of these rows, shape (N,)}."""
    return {
        column.removeprefix(_PREFIX): rows[column].to_numpy()
        for column in rows.columns
        if column.startswith(_PREFIX)
    }
