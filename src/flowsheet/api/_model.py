"""Models: fit on windows, predict risks for windows or for raw records."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeAlias

import polars as pl

from flowsheet import __version__
from flowsheet.api._extract import Extract, Stay, as_tables
from flowsheet.api._html import describe
from flowsheet.api._windows import Windows
from flowsheet.cohort.schema import Tables
from flowsheet.config import ModelConfig
from flowsheet.errors import UsageError
from flowsheet.evaluation.metrics import make_score_function
from flowsheet.models.base import Context
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.state.hashing import digest
from flowsheet.state.locations import local_path
from flowsheet.tracking import model_registry, registered_packages
from flowsheet.tuning.space import resolve
from flowsheet.typing import Floats
from flowsheet.windows.scaling import Scaler

Records: TypeAlias = Extract | Stay | Tables | str | Path
"""What predictions can be made for: an extract, its folder, or a stay."""


class Predictor(ABC):
    """A fitted or a loaded model: it predicts risks."""

    @property
    @abstractmethod
    def name(self) -> str:
        """For legends."""

    @property
    @abstractmethod
    def package(self) -> ModelPackage:
        """All that prediction needs."""

    def predict(self, data: Records) -> pl.DataFrame:
        """stay_id, time, step, risk for raw records: a row for every step of every stay.

        Args:
            data: an extract, its folder, or a stay.

        Raises:
            CheckFailed: it is none of these, or no extract is in the folder.

        Examples:
            >>> import flowsheet as fs
            >>> ward = fs.ingest("simulated_small", stays=60)
            >>> train, valid, test = fs.split(fs.windows(ward, features="vitals_only"), seed=2)
            >>> model = fs.model("logistic_regression", l2=0.01).fit(train, valid)
            >>> model.predict(ward.stay(7)).columns[:4]
            ['stay_id', 'time', 'step', 'risk']
        """
        return self.package.predict(as_tables(data))

    def score(self, data: Records) -> pl.DataFrame:
        """The same as ``predict``."""
        return self.predict(data)

    def predict_proba(self, windows: Windows) -> Floats:
        """The probability of the response for every row of the windows, shape (N,).

        Raises:
            CheckFailed: the windows have other inputs than the training had.

        Examples:
            >>> import flowsheet as fs
            >>> ward = fs.ingest("simulated_small", stays=60)
            >>> train, valid, test = fs.split(fs.windows(ward, features="vitals_only"), seed=2)
            >>> model = fs.model("logistic_regression", l2=0.01).fit(train, valid)
            >>> model.predict_proba(test).shape == test.y.shape
            True
        """
        package = self.package
        return package.model.predict_proba(package.scale(windows.sequences))

    def explain(self, data: Records, top: int | None = 5) -> pl.DataFrame:
        """What each input adds to the log odds of the last risk of each stay, largest first.

        Args:
            data: an extract, its folder, or a stay.
            top: contributions of each prediction; None: all that are not 0.

        Examples:
            >>> import flowsheet as fs
            >>> ward = fs.ingest("simulated_small", stays=60)
            >>> train, valid, test = fs.split(fs.windows(ward, features="vitals_only"), seed=2)
            >>> model = fs.model("logistic_regression", l2=0.01).fit(train, valid)
            >>> model.explain(ward.stay(7), top=3).height
            3
        """
        return self.package.explain(as_tables(data), top=top)


class Model(Predictor):
    """A model with its parameters; ``fit`` makes it a predictor. Inputs are scaled as it needs."""

    def __init__(self, kind: str, *, history: bool = False, **params: Any) -> None:
        """Check the parameters.

        Raises:
            UsageError: the model or a parameter is unknown, or a value is not allowed.
        """
        config = ModelConfig(kind=kind, params=params, space={}, history=history)
        search = resolve(kind, config)
        self.kind = kind
        self.params = search.params({})
        self._class = search.model
        self._package: ModelPackage | None = None

    @property
    def name(self) -> str:
        """The kind of the model."""
        return self.kind

    def fit(
        self,
        train: Windows,
        valid: Windows,
        *,
        seed: int = 1,
        metric: str = "auprc",
        device: str = "cpu",
        threads: int = 1,
        progress: Callable[[str], None] = lambda line: None,
    ) -> Self:
        """Fit on the training windows; the validation windows serve early stopping.

        Args:
            train: windows of the training subjects.
            valid: windows of the validation subjects.
            seed: of everything random.
            metric: that early stopping monitors.
            device: cpu or cuda.
            threads: of the training.
            progress: called with a line for each epoch, such as ``print``.

        Raises:
            CheckFailed: the model cannot be fitted to the task.

        Examples:
            >>> import flowsheet as fs
            >>> ward = fs.ingest("simulated_small", stays=60)
            >>> train, valid, test = fs.split(fs.windows(ward, features="vitals_only"), seed=2)
            >>> model = fs.model("logistic_regression", l2=0.01).fit(train, valid)
            >>> model.tables["coefficients"].height > 0
            True
        """
        fitted = self._class(self.params)
        self._package = ModelPackage(
            folder=Path(),
            kind=self.kind,
            model=fitted,
            scaler=Scaler.fit(train.sequences) if self._class.capabilities.scaled else None,
            task=train.task,
            features=train.features,
            columns=train.columns,
            training_key=digest([self.kind, self.params.model_dump(mode="json"), seed]),
            digest="",
            version=__version__,
        )
        score = make_score_function(metric)
        context = Context(seed=seed, device=device, threads=threads, score=score, progress=progress)
        scale = self._package.scale
        fitted.fit(scale(train.sequences), scale(valid.sequences), context)
        return self

    @property
    def package(self) -> ModelPackage:
        """All that prediction needs.

        Raises:
            UsageError: the model is not fitted.
        """
        if self._package is None:
            raise UsageError(f"the model {self.kind} is not fitted", todo="call fit(train, valid)")
        return self._package

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """Coefficients, importances or training curve, as the model has them."""
        return self.package.model.tables()

    def save(self, folder: str | Path) -> LoadedModel:
        """Write a model package, which ``fs.load(folder)`` reads; no pickles.

        Raises:
            UsageError: the folder exists.

        Examples:
            >>> import flowsheet as fs
            >>> ward = fs.ingest("simulated_small", stays=60)
            >>> train, valid, test = fs.split(fs.windows(ward, features="vitals_only"), seed=2)
            >>> model = fs.model("logistic_regression", l2=0.01).fit(train, valid)
            >>> import tempfile
            >>> from pathlib import Path
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     saved = model.save(Path(folder) / "model")
            >>> saved.predict(ward.stay(7)).equals(model.predict(ward.stay(7)))
            True
        """
        package = self.package
        folder = local_path(folder, "the folder of a model")
        if folder.exists():
            raise UsageError("the folder exists", where=str(folder), todo="give another name")
        with tempfile.TemporaryDirectory() as weights:
            package.model.save(Path(weights))
            saved = ModelPackage.write(
                folder,
                kind=self.kind,
                model=Path(weights),
                scaler=package.scaler,
                task=package.task,
                features=package.features,
                columns=package.columns,
                training_key=package.training_key,
            )
        return LoadedModel(folder.name, saved)

    def __repr__(self) -> str:
        state = "fitted" if self._package else "not fitted"
        values = ", ".join(f"{key}={value!r}" for key, value in self.params.model_dump().items())
        return f"Model({self.kind}, {state}; {values})"

    def _repr_html_(self) -> str:
        state = "fitted" if self._package else "not fitted"
        return describe(f"{self.kind} ({state})", self.params.model_dump())


class LoadedModel(Predictor):
    """A registered or a saved model."""

    def __init__(self, name: str, package: ModelPackage) -> None:
        self._name, self._package = name, package

    @property
    def name(self) -> str:
        """Its reference in the registry, or its folder's name."""
        return self._name

    @property
    def package(self) -> ModelPackage:
        """All that prediction needs."""
        return self._package

    def __repr__(self) -> str:
        return f"LoadedModel({self.name}: {self.package.kind}, task {self.package.task.name})"

    def _repr_html_(self) -> str:
        facts = {"kind": self.package.kind, "task": self.package.task.name}
        return describe(self.name, facts | {"trained by release": self.package.version})


def model(kind: str, *, history: bool = False, **params: Any) -> Model:
    """A model that can be fitted: ``fs.model("lstm", hidden=64).fit(train, valid)``.

    Args:
        kind: a registered model (``flowsheet ls models``).
        history: give it the patient's known past responses as inputs.
        params: its parameters; the others keep their defaults.

    Raises:
        UsageError: the model or a parameter is unknown; the message names the nearest one.

    Examples:
        >>> import flowsheet as fs
        >>> fs.model("lstm", hidden=64).params.hidden
        64
    """
    return Model(kind, history=history, **params)


def load(reference: str | Path) -> LoadedModel:
    """A registered model, ``NAME@ALIAS`` or ``NAME/VERSION``, or the folder of a saved one.

    Raises:
        UsageError: there is no such version.
        CheckFailed: its files were changed, or its code is not here.
    """
    if (Path(reference) / "package.json").is_file():
        return LoadedModel(Path(reference).name, ModelPackage.load(Path(reference)))
    version = model_registry.resolve_reference(str(reference))
    return LoadedModel(version.reference, registered_packages.load_package(version))
