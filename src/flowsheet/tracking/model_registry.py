"""MLflow's model registry: registered models, their versions and aliases."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flowsheet.errors import UsageError, did_you_mean
from flowsheet.state.home import home
from flowsheet.state.locks import exclusive_lock
from flowsheet.timestamps import format_local_minute
from flowsheet.tracking.pyfunc import PACKAGE_DIGEST, RELEASE
from flowsheet.tracking.store import (
    RetryingClient,
    as_default,
    connect,
    ignore_already_exists,
    is_empty,
    store_lock,
)

CHAMPION = "champion"
"""Alias of the version that serves."""
CHALLENGER = "challenger"
"""Alias of the version that is to be promoted next."""

CONFIGURATION = "flowsheet.configuration"
"""Tag of a version: the digest of the choices that it was trained with, without data and seed."""

_TRAINING_KEY = "flowsheet.training_key"
_COPIED_FROM = "flowsheet.copied_from"
_PACKAGE_TAGS = (PACKAGE_DIGEST, RELEASE)


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model."""

    name: str
    version: int
    run_id: str
    """MLflow run that logged the model."""

    @property
    def reference(self) -> str:
        """``NAME/VERSION``."""
        return f"{self.name}/{self.version}"

    @property
    def uri(self) -> str:
        """MLflow's URI of the version."""
        return f"models:/{self.reference}"


# Lookup


def get_version(name: str, version: int | None = None) -> ModelVersion:
    """Version ``version`` of a registered model; without a number, its latest version.

    Raises:
        UsageError: there is no such model or version.
    """
    _get_model(name)
    versions = {int(v.version): v for v in _search_versions(connect(), name)}
    number = version or max(versions, default=0)
    if number not in versions:
        available = ", ".join(map(str, sorted(versions))) or "none"
        what = f"{name} has no version {number}" if number else f"{name} has no versions"
        raise UsageError(what, todo=f"available versions: {available}")
    return ModelVersion(name, number, versions[number].run_id or "")


def get_version_by_alias(name: str, alias: str) -> ModelVersion:
    """The version that an alias points to.

    Raises:
        UsageError: there is no such model, or it has no such alias.
    """
    model = _get_model(name)
    if alias not in model.aliases:
        aliases = ", ".join(sorted(model.aliases))
        raise UsageError(
            f"{name} has no version with the alias {alias!r}",
            todo=f"available aliases: {aliases}" if aliases else "promote a version first",
        )
    return _to_model_version(name, model.aliases[alias])


def find_version_by_alias(name: str, alias: str) -> ModelVersion | None:
    """The version that an alias points to, or None.

    Raises:
        UsageError: there is no such model.
    """
    version = get_aliases(name).get(alias)
    return _to_model_version(name, version) if version else None


def is_registered(name: str) -> bool:
    """Whether there is a registered model of that name."""
    if is_empty():
        return False
    return any(model.name == name for model in connect().search_registered_models(max_results=1000))


def get_aliases(name: str) -> dict[str, int]:
    """{alias: version} of a registered model.

    Raises:
        UsageError: there is no such model.
    """
    return {alias: int(version) for alias, version in _get_model(name).aliases.items()}


def resolve_reference(reference: str) -> ModelVersion:
    """The version of ``NAME@ALIAS`` or ``NAME/VERSION``; ``NAME`` alone is its champion.

    A prefix ``models:/`` is allowed.

    Raises:
        UsageError: there is no such model, alias or version.
    """
    text = reference.removeprefix("models:/")
    name, slash, version = text.partition("/")
    if slash:
        if not version.isdecimal():
            raise UsageError(
                f"{reference!r} is not a model version", todo="write NAME/VERSION or NAME@ALIAS"
            )
        return get_version(name, int(version))
    name, _, alias = text.partition("@")
    return get_version_by_alias(name, alias or CHAMPION)


def get_configuration(version: ModelVersion) -> str:
    """The version's tag ``flowsheet.configuration``; empty if it was registered without one."""
    return str(_get_mlflow_version(version).tags.get(CONFIGURATION, ""))


def list_versions(name: str) -> list[ModelVersion]:
    """All versions of a registered model, oldest first.

    Raises:
        UsageError: there is no such model.
    """
    _get_model(name)
    versions = [
        ModelVersion(name, int(found.version), found.run_id or "")
        for found in _search_versions(connect(), name)
    ]
    return sorted(versions, key=lambda version: version.version)


def list_versions_of_runs(run_ids: Sequence[str]) -> list[ModelVersion]:
    """The versions that were registered from these runs, in their order; copies are left out."""
    client = connect()
    return [
        ModelVersion(version.name, int(version.version), run_id)
        for run_id in run_ids
        for version in client.search_model_versions(f"run_id = '{run_id}'", max_results=1000)
        if _COPIED_FROM not in version.tags
    ]


def list_models() -> tuple[list[str], list[list[object]]]:
    """Registered models with their latest version: header and rows of a table."""
    header = ["model", "versions", "latest", "registered", "aliases", "description"]
    if is_empty():
        return header, []
    client = connect()
    models = client.search_registered_models(max_results=1000)
    return header, [_table_row(client, model) for model in models]


# Registration


def register(
    name: str,
    run_id: str,
    model_uri: str,
    training_key: str,
    *,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> int:
    """Register a trained model and return its version number.

    A training has one version under a name, however often this is called: later calls update its
    description and tags. The digest of its package, by which the package is verified before it is
    loaded, is a tag of the version.

    Args:
        name: registered model, which is created when it does not exist.
        run_id: MLflow run of the model.
        model_uri: what :func:`flowsheet.tracking.packaging.log_model` returned.
        training_key: stage key of the training.
        description: shown on the version's page in MLflow.
        tags: further tags of the version.
    """
    client = connect()
    all_tags = {
        **_read_package_tags(client, model_uri),
        **(tags or {}),
        _TRAINING_KEY: training_key,
    }
    with store_lock(), as_default():
        registered = _find_trained_versions(client, name, training_key)
        if not registered:
            _ensure_model(client, name)
            client.create_model_version(
                name,
                model_uri,
                run_id,
                tags=all_tags,
                description=description,
                await_creation_for=0,
                model_id=model_uri.removeprefix("models:/"),
            )
            version, *duplicates = _find_trained_versions(client, name, training_key)
            for duplicate in duplicates:  # the client repeated a request to a restarted server
                client.delete_model_version(name, str(duplicate))
            return version
    version = registered[0]
    client.update_model_version(name, str(version), description)
    for key, value in all_tags.items():
        if key not in _PACKAGE_TAGS:  # of the package that was tested then; they never change
            client.set_model_version_tag(name, str(version), key, value)
    return version


def copy_version(source: ModelVersion, name: str) -> ModelVersion:
    """Register the model of ``source`` under another name as well; returns that version."""
    original = _get_mlflow_version(source)
    version = register(
        name,
        original.run_id,
        original.source,
        original.tags[_TRAINING_KEY],
        description=original.description or "",
        tags={
            _COPIED_FROM: source.reference,
            PACKAGE_DIGEST: get_package_digest(source),
            CONFIGURATION: get_configuration(source),
        },
    )
    return get_version(name, version)


def get_package_digest(version: ModelVersion) -> str:
    """sha256 of the manifest of the version's package; empty if it was registered without one."""
    return str(_get_mlflow_version(version).tags.get(PACKAGE_DIGEST, ""))


def get_training_user(version: ModelVersion) -> str | None:
    """The user whose process trained the version, according to its run."""
    user = connect().get_run(version.run_id).data.tags.get("mlflow.user")
    return str(user) if user else None


def get_source_version(version: ModelVersion) -> tuple[str, int]:
    """Name and number of the version that this one was copied from, or else its own."""
    tags = _get_mlflow_version(version).tags
    name, _, number = tags.get(_COPIED_FROM, version.reference).rpartition("/")
    return name, int(number)


def link_artifact(version: ModelVersion, title: str, artifact: str) -> None:
    """Add a link to an artifact of the version's run to the version's description."""
    client = connect()
    description = _get_mlflow_version(version).description or ""
    experiment = client.get_run(version.run_id).info.experiment_id
    link = f"[{title}](#/experiments/{experiment}/runs/{version.run_id}/artifacts/{artifact})"
    if link not in description:
        client.update_model_version(
            version.name, str(version.version), f"{description}\n\n{link}".strip()
        )


# Aliases


def promotion_lock() -> contextlib.AbstractContextManager[Any]:
    """A lock between reading the champion alias and moving it: one decision at a time."""
    return exclusive_lock(home() / "mlflow" / ".promotion.lock")


def set_alias(name: str, alias: str, version: int) -> None:
    """Point an alias to a version."""
    connect().set_registered_model_alias(name, alias, str(version))


def delete_alias(name: str, alias: str) -> None:
    """Remove an alias."""
    connect().delete_registered_model_alias(name, alias)


def set_champion(version: ModelVersion) -> None:
    """Make a version the champion; it is no longer the challenger then."""
    set_alias(version.name, CHAMPION, version.version)
    if get_aliases(version.name).get(CHALLENGER) == version.version:
        delete_alias(version.name, CHALLENGER)


def propose_challenger(name: str, version: int) -> str | None:
    """Make a version the challenger if it was trained with the champion's configuration.

    Without a champion there is no challenger, and the champion is not its own. A version of another
    configuration is perhaps a quick test: it never takes the alias by itself.

    Returns:
        Why the version of another configuration is not the challenger, or None.
    """
    champion = find_version_by_alias(name, CHAMPION)
    if champion is None or champion.version == version:
        return None
    if get_configuration(get_version(name, version)) != get_configuration(champion):
        return f"not the challenger: champion {champion.version} has another configuration"
    set_alias(name, CHALLENGER, version)
    return None


# Artifacts


def download_run_artifact(version: ModelVersion, artifact: str, into: Path) -> Path | None:
    """Download an artifact of the version's run to the folder ``into``; None if there is none."""
    client = connect()
    if not client.list_artifacts(version.run_id, artifact):
        return None
    with as_default():
        return Path(client.download_artifacts(version.run_id, artifact, str(into)))


def _read_package_tags(client: RetryingClient, model_uri: str) -> dict[str, str]:
    """The tags with digest and release of the package that was logged as this model."""
    tags = client.get_logged_model(model_uri.removeprefix("models:/")).tags
    return {name: value for name, value in tags.items() if name in _PACKAGE_TAGS}


def _get_model(name: str) -> Any:
    if is_empty():
        raise UsageError("no model is registered yet", todo="run an experiment first")
    models = {model.name: model for model in connect().search_registered_models(max_results=1000)}
    if name not in models:
        raise UsageError(f"there is no registered model {name!r}", todo=did_you_mean(name, models))
    return models[name]


def _ensure_model(client: RetryingClient, name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        with ignore_already_exists():
            client.create_registered_model(name)


def _get_mlflow_version(version: ModelVersion) -> Any:
    return connect().get_model_version(version.name, str(version.version))


def _to_model_version(name: str, version: int | str) -> ModelVersion:
    run_id = connect().get_model_version(name, str(version)).run_id
    return ModelVersion(name, int(version), run_id or "")


def _search_versions(client: RetryingClient, name: str) -> list[Any]:
    return list(client.search_model_versions(f"name = '{name}'", max_results=10_000))


def _find_trained_versions(client: RetryingClient, name: str, training_key: str) -> list[int]:
    """Numbers of the versions with this training, oldest first."""
    return sorted(
        int(version.version)
        for version in _search_versions(client, name)
        if version.tags.get(_TRAINING_KEY) == training_key
    )


def _table_row(client: RetryingClient, model: Any) -> list[object]:
    versions = _search_versions(client, model.name)
    if not versions:
        return [model.name, 0, None, None, {}, ""]
    latest = max(versions, key=lambda version: int(version.version))
    created = datetime.fromtimestamp(latest.creation_timestamp / 1000, UTC)
    aliases = {alias: int(version) for alias, version in sorted(model.aliases.items())}
    description, *_ = (latest.description or "").split("\n\n")  # the rest is for the page
    return [
        model.name,
        len(versions),
        int(latest.version),
        format_local_minute(created),
        aliases,
        description,
    ]
