"""A fitted model with everything that turns raw records into its inputs: one folder, no pickles.

``package.json`` (configuration, columns, versions, requirements), ``model/`` (``Model.save``),
``scaler.json`` (for models with scaled inputs), ``development/`` (alert policy, digests of
the subjects), ``reference/`` (sketches of the training data), ``code.zip`` (the code of
predictions), and ``manifest.json`` (sha256 of every file), which is checked before anything else is
read.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import polars as pl
from pydantic import ValidationError

from flowsheet import __version__
from flowsheet.cohort.catalogue import own_concepts
from flowsheet.cohort.schema import Tables
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.config.validation import validate_recorded
from flowsheet.errors import CheckFailed
from flowsheet.evaluation.alert_policy import AlertPolicy, raise_alerts
from flowsheet.models.base import MODELS, Model
from flowsheet.plugins import describe_code
from flowsheet.prediction.development import Development
from flowsheet.prediction.explanations import Steps, explain
from flowsheet.prediction.manifest import Manifest, verify_manifest, write_manifest
from flowsheet.prediction.package_code import CODE, PackageCode, collect_code
from flowsheet.project import PROJECT
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Bools, Floats, Ints
from flowsheet.windows.build import VERSION as WINDOWS_VERSION
from flowsheet.windows.build import build_sequences, list_features
from flowsheet.windows.grid import Grid
from flowsheet.windows.scaling import Scaler
from flowsheet.windows.sequences import Sequences

PACKAGE_VERSION = 4
"""Layout of the package."""

_OTHER_RELEASE = (
    "use the release that trained it, or load the model where Flowsheet is not installed, with the "
    "code in the package (`mlflow models serve --env-manager uv`)"
)

PREDICTIONS: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "time": pl.Datetime("us"),  # when the prediction is made
    "step": pl.Int32(),  # k, counted from 1 at admission
    "risk": pl.Float64(),
}
"""Columns of :meth:`ModelPackage.predict`."""


class InputColumns(TypedDict):
    """What fixes the model's inputs beside the configuration, in the extract's order."""

    variables: Sequence[str]
    drugs: Sequence[str]
    vocabulary: Mapping[str, Sequence[str]]


class ModelInputs(NamedTuple):
    """What a model predicts from: N rows, and when their predictions are made."""

    raw: Sequences
    scaled: Sequences
    """As the model takes them: scaled if it wants that."""
    predicted_at: Ints  # (N,) microseconds


@dataclass(frozen=True)
class ModelPackage:
    """Raw tables in, a risk for every step out: windows, scaling and model of one training."""

    folder: Path
    kind: str
    model: Model
    scaler: Scaler | None
    task: TaskConfig
    features: FeaturesConfig
    columns: InputColumns
    training_key: str
    digest: str
    """sha256 of the manifest, which stands for all bytes of the package."""
    version: str
    """The release of flowsheet that trained it."""
    reference: Mapping[str, Any] | None = None
    """Sketches of the training data (``flowsheet.monitoring.reference``), where they were saved."""
    development: Development | None = None
    """Its subjects and alert policy; None in packages of earlier releases."""

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
        columns: InputColumns,
        training_key: str,
    ) -> ModelPackage:
        """Write a model package and load it.

        Args:
            folder: where to write; must not exist.
            kind: the model's name in the registry of models, such as ``lstm``.
            model: the folder that ``Model.save`` filled; it is copied.
            scaler: the inputs' scaling, for models that need one.
            task: what is predicted.
            features: what the windows hold.
            columns: variables, drugs and vocabulary of the training data.
            training_key: identifies the training.
        """
        folder.mkdir()
        loaded = MODELS.get(kind).load(model)
        members = [MODELS.get(member) for member in loaded.member_kinds]
        code = collect_code(MODELS.get(kind), members)
        (folder / CODE).write_bytes(code.archive)
        shutil.copytree(model, folder / "model")
        if scaler is not None:
            scaler.save(folder / "scaler.json")
        vocabulary = {name: list(words) for name, words in columns["vocabulary"].items()}
        description = {
            "flowsheet": __version__,
            "package_version": PACKAGE_VERSION,
            "code": code.sha256,
            "requirements": code.requirements,
            "kind": kind,
            "model_version": MODELS.get(kind).saved_version,
            "windows_version": WINDOWS_VERSION,
            "params": loaded.params.model_dump(mode="json"),
            "task": task.model_dump(mode="json"),
            "features": features.model_dump(mode="json"),
            "columns": {
                "variables": list(columns["variables"]),
                "drugs": list(columns["drugs"]),
                "vocabulary": vocabulary,
            },
            "inputs": _input_names(features, columns),
            "own_concepts": own_concepts(columns["variables"], columns["drugs"]),
            "plugin": _describe_plugin(MODELS.get(kind), code),
            "training_key": training_key,
        }
        write_json(folder / "package.json", description)
        write_manifest(folder)
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path, digest: str | None = None) -> ModelPackage:
        """The model package in a folder, whose files are verified before they are read.

        Args:
            folder: the model package.
            digest: the package's digest, where it is recorded outside of the package.

        Raises:
            CheckFailed: a file was changed, added or removed, the package is another one, or this
                release builds other inputs from the same records than the one that trained the
                model.
        """
        manifest = verify_manifest(folder, digest)
        description = read_json(folder / "package.json")
        _check_layout(folder, description)
        features = validate_recorded(FeaturesConfig, description["features"], str(folder))
        _check_plugin(folder, description)
        _check_inputs(folder, description, features)
        _check_scaler(folder, description["kind"], manifest)
        scaler = folder / "scaler.json"
        reference = folder / "reference" / "reference.json"
        return cls(
            folder=folder,
            kind=description["kind"],
            model=_load_model(folder, description),
            scaler=Scaler.load(scaler) if manifest.has("scaler.json") else None,
            task=validate_recorded(TaskConfig, description["task"], str(folder)),
            features=features,
            columns=description["columns"],
            training_key=description["training_key"],
            digest=manifest.digest,
            version=description["flowsheet"],
            reference=(read_json(reference) if manifest.has("reference/reference.json") else None),
            development=(
                Development.load(folder) if manifest.has("development/development.json") else None
            ),
        )

    @property
    def policy(self) -> AlertPolicy | None:
        """From which risk on there are alerts; None in packages of earlier releases."""
        return self.development.policy if self.development else None

    @property
    def threshold(self) -> float | None:
        """The risk from which on a step has an alert; None in packages of earlier releases."""
        return self.policy.threshold if self.policy else None

    def raise_alerts(
        self, predictions: pl.DataFrame, acknowledged: pl.DataFrame | None = None
    ) -> Bools | None:
        """Which predictions raise an alert by the policy, shape (N,); None: there is no policy.

        Args:
            predictions: as :meth:`predict` gives them: of each stay all steps so far, in order, so
                that its earlier alerts are known.
            acknowledged: ``stay`` (its id) and ``hours`` since admission at which an alert was
                acknowledged; None: every alert is acknowledged at once.
        """
        if self.policy is None:
            return None
        stay, step, risk = (predictions[name].to_numpy() for name in ("stay_id", "step", "risk"))
        return raise_alerts(self.policy, self.task, stay, step, risk, acknowledged=acknowledged)

    def predict(self, tables: Tables) -> pl.DataFrame:
        """A risk for every step of every stay, sorted by stay and step; columns ``PREDICTIONS``.

        ``tables`` are the extract's, for one or many stays; a row's risk depends only on facts that
        were known by its ``time``.
        """
        grid = Grid.from_stays(tables.stays, self.task)
        if grid.rows == 0:
            return pl.DataFrame(schema=PREDICTIONS)
        sequences = self.build_sequences(tables)
        predictions = {
            "stay_id": sequences.stay_id[sequences.row_stay],
            "time": pl.Series(grid.predicted_at).cast(pl.Datetime("us")),
            "step": sequences.step,
            "risk": self.predict_sequences(sequences),
        }
        return pl.DataFrame(predictions, schema=PREDICTIONS)

    def explain(
        self, tables: Tables, steps: Steps = "last", top: int | None = None
    ) -> pl.DataFrame:
        """Why the risks are what they are, by stay, step and rank; columns ``EXPLANATIONS``.

        Args:
            tables: The extract's tables, for one or many stays.
            steps: Which predictions to explain: "last" (of each stay), "all", or these steps.
            top: Contributions of each prediction, the largest ones; None: all that are not 0.
        """
        return explain(self, tables, steps, top)

    def build_sequences(self, tables: Tables) -> Sequences:
        """The model's own windows of these tables, not scaled."""
        return build_sequences(
            tables,
            self.task,
            self.features,
            self.columns["variables"],
            self.columns["drugs"],
            self.columns["vocabulary"],
        )

    def build_inputs(self, tables: Tables) -> ModelInputs:
        """The inputs of every step of every stay, sorted by stay and step."""
        raw = self.build_sequences(tables)
        return ModelInputs(
            raw=raw,
            scaled=self.scale(raw),
            predicted_at=Grid.from_stays(tables.stays, self.task).predicted_at,
        )

    def predict_sequences(self, sequences: Sequences) -> Floats:
        """The risk of every row of :meth:`build_sequences`, shape (N,)."""
        return self.model.predict_proba(self.scale(sequences))

    def scale(self, sequences: Sequences) -> Sequences:
        """The rows of :meth:`build_sequences` as the model takes them."""
        return self.scaler.transform(sequences) if self.scaler is not None else sequences


def _input_names(features: FeaturesConfig, known: InputColumns) -> list[str]:
    inputs = list_features(features, known["variables"], known["drugs"], known["vocabulary"])
    return [feature.name for feature in inputs]


def _describe_plugin(cls: type, code: PackageCode) -> dict[str, Any] | None:
    described = describe_code(cls)
    return {**described, "not_included": code.not_included} if described else None


def _load_model(folder: Path, description: Mapping[str, Any]) -> Model:
    """The fitted model; refuses one with parameters that only another release knows."""
    try:
        return MODELS.get(description["kind"]).load(folder / "model")
    except ValidationError as error:
        names = sorted({str(problem["loc"][0]) for problem in error.errors() if problem["loc"]})
        raise CheckFailed(
            f"release {description['flowsheet']} trained the model with parameters that this "
            f"release ({__version__}) does not know: {', '.join(names)}",
            where=str(folder),
            todo=_OTHER_RELEASE,
        ) from None


def _check_layout(folder: Path, description: Mapping[str, Any]) -> None:
    """Refuse a package of a later release; its configuration may not be readable here."""
    layout = description.get("package_version", 2)
    if layout > PACKAGE_VERSION:
        raise CheckFailed(
            f"release {description['flowsheet']} wrote the package with layout {layout}; this "
            f"release ({__version__}) reads layouts up to {PACKAGE_VERSION}",
            where=str(folder),
            todo=_OTHER_RELEASE,
        )
    if description["kind"] not in MODELS.names() and not description.get("plugin"):
        raise CheckFailed(
            f"release {description['flowsheet']} trained a model of the kind "
            f"{description['kind']!r}, which this release ({__version__}) does not have",
            where=str(folder),
            todo=_OTHER_RELEASE,
        )


def _check_plugin(folder: Path, description: Mapping[str, Any]) -> None:
    """Refuse a package whose model, variables or drugs belong to a project that is not here."""
    kind, plugin = description["kind"], description.get("plugin")
    if plugin and kind not in MODELS.names():
        distribution = plugin.get("distribution")
        install = f"install {distribution} {plugin['version']}, or " if distribution else ""
        raise CheckFailed(
            f"the code of the model {kind!r} is not here: it belongs to {plugin['module']}, "
            "which is not part of Flowsheet",
            where=str(folder),
            todo=f"{install}work in the folder of its project, or name that in {PROJECT}",
        )
    concepts: Mapping[str, Any] = description.get("own_concepts", {})
    here = own_concepts(*([concept["name"] for concept in concepts.values()],) * 2)
    different = sorted(name for name in concepts if concepts[name] != here.get(name))
    if different:
        raise CheckFailed(
            "the catalogue lacks the model's own concepts, or defines them differently: "
            + ", ".join(different),
            where=str(folder),
            todo=f"work in the folder of the model's project, or name that in {PROJECT}",
        )


def _check_inputs(folder: Path, description: Mapping[str, Any], features: FeaturesConfig) -> None:
    kind = description["kind"]
    trained = {"windows": description["windows_version"], kind: description["model_version"]}
    current = {"windows": WINDOWS_VERSION, kind: MODELS.get(kind).saved_version}
    if trained == current and description["inputs"] == _input_names(
        features, description["columns"]
    ):
        return
    changes = [
        f"{name} had version {trained[name]}, has version {current[name]}"
        for name in trained
        if trained[name] != current[name]
    ]
    raise CheckFailed(
        f"release {description['flowsheet']} trained the model; this release ({__version__}) would "
        f"build other inputs: {', '.join(changes) or 'the input columns differ'}",
        where=str(folder),
        todo=f"{_OTHER_RELEASE}, or train the model again",
    )


def _check_scaler(folder: Path, kind: str, manifest: Manifest) -> None:
    """Refuse a package whose model was trained on scaled inputs but has no scaler."""
    if MODELS.get(kind).capabilities.scaled and not manifest.has("scaler.json"):
        raise CheckFailed(
            f"the model package has no scaler.json, but {kind} was trained on scaled inputs",
            where=str(folder),
            todo="train the model again",
        )
