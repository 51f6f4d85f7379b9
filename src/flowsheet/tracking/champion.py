"""From a registered name and an alias to a bundle in memory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowsheet.errors import CheckFailed, UsageError, did_you_mean
from flowsheet.tracking.bundle import Bundle
from flowsheet.tracking.store import as_default, connect, is_empty

_LOADER = "flowsheet.tracking.served"


@dataclass(frozen=True)
class Registered:
    """One version of a registered model."""

    name: str
    version: int
    run_id: str

    @property
    def uri(self) -> str:
        """What MLflow calls it."""
        return f"models:/{self.name}/{self.version}"


def resolve(name: str, alias: str) -> Registered:
    """The version that the alias stands for now.

    Raises:
        UsageError: there is no such model, or it has no such alias.
    """
    if is_empty():
        raise UsageError("no model is registered yet", todo="run an experiment first")
    client = connect()
    models = {model.name: model for model in client.search_registered_models(max_results=1000)}
    if name not in models:
        raise UsageError(f"there is no registered model {name!r}", todo=did_you_mean(name, models))
    version = models[name].aliases.get(alias)
    if version is None:
        raise UsageError(f"{name} has no version with the alias {alias!r}", todo=_aliases(models[name]))
    held = client.get_model_version(name, str(version))
    return Registered(name, int(version), held.run_id or "")


def load(registered: Registered) -> Bundle:
    """The bundle of that version; everything that a prediction needs is in memory.

    Raises:
        CheckFailed: the version was packaged by something else, or its inputs are not this release's.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.models import Model

    with tempfile.TemporaryDirectory() as folder:
        with as_default():
            package = Path(download_artifacts(registered.uri, dst_path=folder))
        flavour = Model.load(str(package)).flavors.get("python_function", {})
        if flavour.get("loader_module") != _LOADER:
            raise CheckFailed(
                "the model is none of flowsheet's", registered.uri, "register one that an experiment made"
            )
        return Bundle.load(package / flavour["data"])


def _aliases(model: Any) -> str:
    held = ", ".join(sorted(model.aliases))
    return f"its aliases: {held}" if held else "promote a version first: it has no alias at all"
