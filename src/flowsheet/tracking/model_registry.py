"""Which version an alias stands for, and the model package behind it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowsheet.errors import CheckFailed, UsageError, did_you_mean
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.state.home import home
from flowsheet.state.json_files import read_json
from flowsheet.state.locks import exclusive_lock
from flowsheet.tracking.store import as_default, connect, is_empty

_LOADER = "flowsheet.tracking.pyfunc"


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
    model = _model(name)
    version = model.aliases.get(alias)
    if version is None:
        raise UsageError(f"{name} has no version with the alias {alias!r}", todo=_aliases(model))
    return Registered(
        name, int(version), connect().get_model_version(name, str(version)).run_id or ""
    )


def held(name: str, alias: str) -> Registered | None:
    """The version that the alias stands for, if there is one.

    Raises:
        UsageError: there is no such model.
    """
    version = aliases(name).get(alias)
    return find(name, version) if version else None


def aliases(name: str) -> dict[str, int]:
    """{alias: version} of a registered model.

    Raises:
        UsageError: there is no such model.
    """
    return {alias: int(version) for alias, version in _model(name).aliases.items()}


def find(name: str, version: int | None = None) -> Registered:
    """That version of a registered model; the latest one, where none is named.

    Raises:
        UsageError: there is no such model or version.
    """
    _model(name)
    versions = {
        int(v.version): v
        for v in connect().search_model_versions(f"name = '{name}'", max_results=10_000)
    }
    wanted = version or max(versions, default=0)
    if wanted not in versions:
        known = ", ".join(map(str, sorted(versions))) or "none"
        raise UsageError(
            f"{name} has no version {wanted or 'at all'}", todo=f"its versions: {known}"
        )
    return Registered(name, wanted, versions[wanted].run_id or "")


def named(reference: str) -> Registered:
    """What ``NAME@ALIAS`` or ``NAME/VERSION`` means, with or without ``models:/``; ``NAME`` alone
    is its champion.

    Raises:
        UsageError: there is no such model, alias or version.
    """
    text = reference.removeprefix("models:/")
    name, slash, version = text.partition("/")
    if slash:
        if not version.isdecimal():
            raise UsageError(
                f"{reference!r} names no version", todo="write NAME/VERSION or NAME@ALIAS"
            )
        return find(name, int(version))
    name, _, alias = text.partition("@")
    return resolve(name, alias or "champion")


def move(name: str, alias: str, version: int | None) -> None:
    """Let the alias stand for that version; for none, take it away."""
    if version is None:
        connect().delete_registered_model_alias(name, alias)
    else:
        connect().set_registered_model_alias(name, alias, str(version))


def deciding() -> Any:
    """A lock to hold from looking at a champion to having moved it: one decision at a time."""
    return exclusive_lock(home() / "mlflow" / ".deciding")


def has_our_signature(registered: Registered) -> bool:
    """Whether the package takes and gives the columns that every package of this release does."""
    from mlflow.models import get_model_info

    from flowsheet.tracking.pyfunc import signature

    with as_default():
        return bool(get_model_info(registered.uri).signature == signature())


def load(registered: Registered) -> ModelPackage:
    """The model package of that version; everything that a prediction needs is in memory.

    Raises:
        CheckFailed: the version was packaged by something else, or its inputs are not this
        release's.
    """
    with tempfile.TemporaryDirectory() as folder:
        return ModelPackage.load(_unpacked(registered, Path(folder)))


def about(registered: Registered) -> dict[str, Any]:
    """What the package of that version says of itself (``package.json``), without loading the model.

    Raises:
        CheckFailed: the version was packaged by something else.
    """
    with tempfile.TemporaryDirectory() as folder:
        said: dict[str, Any] = read_json(_unpacked(registered, Path(folder)) / "package.json")
        return said


def kept(registered: Registered, name: str, into: Path) -> Path | None:
    """Copy what the version's own run keeps below ``name`` to the folder ``into``; None where it keeps nothing."""
    client = connect()
    if not client.list_artifacts(registered.run_id, name):
        return None
    with as_default():
        return Path(client.download_artifacts(registered.run_id, name, str(into)))


def add_page(registered: Registered, title: str, artifact: str) -> None:
    """Link a page that the version's own run keeps from the version's description."""
    client = connect()
    held = client.get_model_version(registered.name, str(registered.version)).description or ""
    experiment = client.get_run(registered.run_id).info.experiment_id
    link = f"[{title}](#/experiments/{experiment}/runs/{registered.run_id}/artifacts/{artifact})"
    if link not in held:
        client.update_model_version(
            registered.name, str(registered.version), f"{held}\n\n{link}".strip()
        )


def origin(registered: Registered) -> tuple[str, int]:
    """Name and number of the version that it was taken from to serve under another name; else its own."""
    tags = connect().get_model_version(registered.name, str(registered.version)).tags
    name, _, version = tags.get(
        "flowsheet.adopted_from", f"{registered.name}/{registered.version}"
    ).rpartition("/")
    return name, int(version)


def _unpacked(registered: Registered, folder: Path) -> Path:
    """The model package's folder of a downloaded package."""
    from mlflow.artifacts import download_artifacts
    from mlflow.models import Model

    with as_default():
        package = Path(download_artifacts(registered.uri, dst_path=str(folder)))
    flavour = Model.load(str(package)).flavors.get("python_function", {})
    if flavour.get("loader_module") != _LOADER:
        raise CheckFailed(
            "the model is none of flowsheet's",
            registered.uri,
            "register one that an experiment made",
        )
    return package / str(flavour["data"])


def _model(name: str) -> Any:
    if is_empty():
        raise UsageError("no model is registered yet", todo="run an experiment first")
    models = {model.name: model for model in connect().search_registered_models(max_results=1000)}
    if name not in models:
        raise UsageError(f"there is no registered model {name!r}", todo=did_you_mean(name, models))
    return models[name]


def _aliases(model: Any) -> str:
    held = ", ".join(sorted(model.aliases))
    return f"its aliases: {held}" if held else "promote a version first: it has no alias at all"
