"""What every model said of every held-out row: the table that all evidence can be computed from
again.

``predictions.parquet`` has a line for each held-out row of each repeat: repeat, fold, stay_id,
subject_id, step, y, scored, in_state, and ``p.<model>`` for each model. ``folds.json`` tells what
belongs to a whole fold, and ``subgroups.parquet`` has a line for each stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from flowsheet.config import FrozenModel
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Floats
from flowsheet.windows.sequences import Sequences

_ROW = ("y", "scored", "in_state", "step")
_PREFIX = "p."


class PredictedFold(FrozenModel):
    """What belongs to a whole fold."""

    name: str
    repeat: int
    fold: int
    learned_from: int
    """Training and validation subjects."""
    thresholds: dict[str, float]


@dataclass(frozen=True)
class Predictions:
    """Held-out rows with what every model said of them."""

    rows: pl.DataFrame
    subgroups: pl.DataFrame
    folds: tuple[PredictedFold, ...]

    @property
    def models(self) -> list[str]:
        """Their names."""
        return [c.removeprefix(_PREFIX) for c in self.rows.columns if c.startswith(_PREFIX)]

    def of(self, fold: PredictedFold) -> pl.DataFrame:
        """The rows that the fold held out, by stay and step."""
        return self.rows.filter(repeat=fold.repeat, fold=fold.fold)

    def targets(self) -> pl.DataFrame:
        """Which rows were asked about, and what came of them."""
        return self.rows.select("repeat", "fold", "stay_id", "subject_id", *_ROW)

    def targets_fingerprint(self) -> str:
        """sha256 of :meth:`targets`: equal where the same questions were asked of the same patients."""
        return _digest(self.targets().cast(pl.Int64))

    def probabilities_fingerprint(self) -> str:
        """sha256 of what the models said."""
        return _digest(self.rows.select(f"^{_PREFIX}.*$"))

    def select_models(self, names: Mapping[str, str]) -> Predictions:
        """Only these models, under these names."""
        columns = {_PREFIX + old: _PREFIX + new for old, new in names.items()}
        rows = self.rows.select(*self.targets().columns, *columns).rename(columns)
        notes = [
            fold.model_copy(
                update={"thresholds": {new: fold.thresholds[old] for old, new in names.items()}}
            )
            for fold in self.folds
        ]
        return Predictions(rows, self.subgroups, tuple(notes))

    def join_models(self, other: Predictions) -> Predictions:
        """The models of both; they must have been asked about the same rows."""
        notes = [
            mine.model_copy(update={"thresholds": {**mine.thresholds, **theirs.thresholds}})
            for mine, theirs in zip(self.folds, other.folds, strict=True)
        ]
        added = other.rows.select(f"^{_PREFIX}.*$")
        return Predictions(self.rows.hstack(added), self.subgroups, tuple(notes))

    def save(self, folder: Path) -> None:
        """Write the tables into an existing folder."""
        self.rows.write_parquet(folder / "predictions.parquet")
        self.subgroups.write_parquet(folder / "subgroups.parquet")
        write_json(folder / "folds.json", [fold.model_dump() for fold in self.folds])

    @classmethod
    def load(cls, folder: Path) -> Predictions:
        """The tables of :meth:`save`."""
        notes = tuple(
            PredictedFold.model_validate(note) for note in read_json(folder / "folds.json")
        )
        rows = pl.read_parquet(folder / "predictions.parquet")
        return cls(rows, pl.read_parquet(folder / "subgroups.parquet"), notes)


def _digest(frame: pl.DataFrame) -> str:
    return digest({c.name: hashlib.sha256(c.to_numpy().tobytes()).hexdigest() for c in frame})


def table(sequences: Sequences, said: Mapping[str, Floats], repeat: int, fold: int) -> pl.DataFrame:
    """One fold's lines, by stay and step."""
    stay = sequences.row_stay
    return (
        pl.DataFrame(
            {
                "stay_id": np.asarray(sequences.stay_id)[stay],
                "subject_id": np.asarray(sequences.subject_id)[stay],
                **{name: np.asarray(getattr(sequences, name)) for name in _ROW},
                **{_PREFIX + model: p for model, p in said.items()},
            }
        )
        .select(pl.lit(repeat).alias("repeat"), pl.lit(fold).alias("fold"), pl.all())
        .sort("stay_id", "step")
    )


def sequences(rows: pl.DataFrame) -> Sequences:
    """Lines of one repeat as sequences without inputs: all that evidence needs to know of them."""
    rows = rows.sort("stay_id", "step")
    stays = rows.group_by("stay_id", maintain_order=True).agg(
        pl.col("subject_id").first(), pl.len()
    )
    return Sequences(
        x=np.empty((rows.height, 0), np.float32),
        **{name: rows[name].to_numpy() for name in _ROW},
        history=np.empty((rows.height, 0), np.float32),
        offsets=np.concatenate([[0], np.cumsum(stays["len"].to_numpy())]).astype(np.int64),
        stay_id=stays["stay_id"].to_numpy(),
        subject_id=stays["subject_id"].to_numpy(),
        features=(),
    )


def said(rows: pl.DataFrame, model: str) -> Floats:
    """What a model said of these lines."""
    return rows[_PREFIX + model].to_numpy()
