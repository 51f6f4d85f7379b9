"""A fitted model with all that raw records must pass on their way to it: one folder, no pickles.

``package.json`` (what it is), ``model/`` (``Model.save``), ``scaler.json`` (for models that want
scaled inputs), ``reference/`` (what it was trained on, in sketches).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import polars as pl

from flowsheet import __version__
from flowsheet.cohort.schema import Tables
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.errors import CheckFailed
from flowsheet.models.base import MODELS, Model
from flowsheet.state.json_files import read_json, write_json
from flowsheet.windows.build import VERSION as WINDOWS_VERSION
from flowsheet.windows.build import build_sequences, list_features
from flowsheet.windows.grid import Grid
from flowsheet.windows.scaling import Scaler

PREDICTIONS: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "time": pl.Datetime("us"),  # when the prediction is made
    "step": pl.Int32(),  # k, counted from 1 at admission
    "risk": pl.Float64(),
}


class Columns(TypedDict):
    """What fixes the inputs beside the configuration, in the extract's order."""

    variables: Sequence[str]
    drugs: Sequence[str]
    vocabulary: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class ModelPackage:
    """Raw tables in, a risk for every step out: the windows, the scaling and the model of one training."""

    folder: Path
    kind: str
    model: Model
    scaler: Scaler | None
    task: TaskConfig
    features: FeaturesConfig
    columns: Columns
    training_key: str
    version: str
    """The release of flowsheet that made it."""
    reference: Mapping[str, Any] | None = None
    """What it was trained on (``flowsheet.monitoring.reference``), where that was kept."""

    @classmethod
    def write(
        cls,
        folder: Path,
        *,
        kind: str,
        model: Path,
        scaler: Scaler | None,
        task: TaskConfig,
        features: FeaturesConfig,
        columns: Columns,
        training_key: str,
    ) -> ModelPackage:
        """Fill a new ``folder`` from a model's saved folder and what surrounds it, and open it."""
        folder.mkdir()
        shutil.copytree(model, folder / "model")
        if scaler is not None:
            scaler.save(folder / "scaler.json")
        about = {
            "flowsheet": __version__,
            "kind": kind,
            "model_version": MODELS.get(kind).version,
            "windows_version": WINDOWS_VERSION,
            "params": MODELS.get(kind).load(folder / "model").params.model_dump(mode="json"),
            "task": task.model_dump(mode="json"),
            "features": features.model_dump(mode="json"),
            "columns": {
                "variables": list(columns["variables"]),
                "drugs": list(columns["drugs"]),
                "vocabulary": {name: list(words) for name, words in columns["vocabulary"].items()},
            },
            "inputs": _feature_names(features, columns),
            "training_key": training_key,
        }
        write_json(folder / "package.json", about)
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> ModelPackage:
        """The model package in a folder.

        Raises:
            CheckFailed: this release builds other inputs from the same records than the one that
            trained it.
        """
        about = read_json(folder / "package.json")
        features = FeaturesConfig.model_validate(about["features"])
        _check_inputs(folder, about, features)
        scaler, reference = folder / "scaler.json", folder / "reference" / "reference.json"
        return cls(
            folder=folder,
            kind=about["kind"],
            model=MODELS.get(about["kind"]).load(folder / "model"),
            scaler=Scaler.load(scaler) if scaler.exists() else None,
            task=TaskConfig.model_validate(about["task"]),
            features=features,
            columns=about["columns"],
            training_key=about["training_key"],
            version=about["flowsheet"],
            reference=read_json(reference) if reference.exists() else None,
        )

    def predict(self, tables: Tables) -> pl.DataFrame:
        """A risk for every step of every stay, sorted by stay and step, with the columns of
        ``PREDICTIONS``.

        ``tables`` are the extract's, for one or many stays; only facts known by a row's ``time``
        have a part in it.
        """
        grid = Grid.from_stays(tables.stays, self.task)
        if grid.rows == 0:
            return pl.DataFrame(schema=PREDICTIONS)
        held = self.columns
        sequences = build_sequences(
            tables, self.task, self.features, held["variables"], held["drugs"], held["vocabulary"]
        )
        if self.scaler is not None:
            sequences = self.scaler.transform(sequences)
        answer = {
            "stay_id": sequences.stay_id[sequences.row_stay],
            "time": pl.Series(grid.predicted_at).cast(pl.Datetime("us")),
            "step": sequences.step,
            "risk": self.model.predict_proba(sequences),
        }
        return pl.DataFrame(answer, schema=PREDICTIONS)


def _feature_names(features: FeaturesConfig, held: Columns) -> list[str]:
    return [
        f.name
        for f in list_features(features, held["variables"], held["drugs"], held["vocabulary"])
    ]


def _check_inputs(folder: Path, about: Mapping[str, Any], features: FeaturesConfig) -> None:
    kind = MODELS.get(about["kind"])
    made = {"windows": about["windows_version"], about["kind"]: about["model_version"]}
    here = {"windows": WINDOWS_VERSION, about["kind"]: kind.version}
    if made != here or about["inputs"] != _feature_names(features, about["columns"]):
        changed = ", ".join(
            f"{name} {made[name]} then, {here[name]} now"
            for name in made
            if made[name] != here[name]
        )
        raise CheckFailed(
            f"the model is of another release ({about['flowsheet']}) than this one ({__version__}), and inputs "
            f"or numbers differ: {changed or 'other input columns'}",
            where=str(folder),
            todo="use the release that trained it, or train the model again",
        )
