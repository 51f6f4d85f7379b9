"""The registry: the best version of each model, under a name that serving asks for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flowsheet.timestamps import format_local_minute
from flowsheet.tracking.store import as_default, connect, is_empty, store_lock, unless_there


def register(
    name: str,
    run_id: str,
    model_uri: str,
    training_key: str,
    *,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> int:
    """The version of the registered model ``name`` that holds this training; made when there is
    none.

    ``model_uri`` is what :func:`flowsheet.tracking.packaging.log_model` gave. One training is
    registered once under a name, however often this is called. Description and tags are brought up
    to date.
    """
    client = connect()
    marks = {**(tags or {}), "flowsheet.training_key": training_key}
    with store_lock(), as_default():
        held = _held(client, name, training_key)
        if not held:
            _ensure_name(client, name)
            client.create_model_version(
                name, model_uri, run_id, tags=marks, description=description, await_creation_for=0,
                model_id=model_uri.removeprefix("models:/"),
            )  # fmt: skip
            version, *again = _held(client, name, training_key)
            for extra in again:  # a server that was killed before it answered was asked once more
                client.delete_model_version(name, str(extra))
            return version
    version = held[0]
    client.update_model_version(name, str(version), description)
    for key, value in marks.items():
        client.set_model_version_tag(name, str(version), key, value)
    return version


def adopt(name: str, version: int, place: str) -> int:
    """The version of the registered model ``place`` that holds what ``name/version`` does; made when there is none."""
    client = connect()
    held = client.get_model_version(name, str(version))
    return register(
        place,
        held.run_id,
        held.source,
        held.tags["flowsheet.training_key"],
        description=held.description or "",
        tags={"flowsheet.adopted_from": f"{name}/{version}"},
    )


def challenge(name: str, version: int) -> None:
    """Let the version be the challenger, where there is a champion and it is another one."""
    client = connect()
    aliases = client.get_registered_model(name).aliases
    if "champion" in aliases and int(aliases["champion"]) != version:
        client.set_registered_model_alias(name, "challenger", str(version))


def list_models() -> tuple[list[str], list[list[str]]]:
    """Registered models with their latest version: header and rows."""
    header = ["model", "versions", "latest", "registered", "aliases", "description"]
    if is_empty():
        return header, []
    client = connect()
    return header, [
        _row(client, model) for model in client.search_registered_models(max_results=1000)
    ]


def _row(client: Any, model: Any) -> list[str]:
    versions = sorted(_versions(client, model.name), key=lambda v: int(v.version))
    if not versions:
        return [model.name, "0", "", "", "", ""]
    latest = versions[-1]
    made = format_local_minute(datetime.fromtimestamp(latest.creation_timestamp / 1000, UTC))
    aliases = ", ".join(f"{alias} -> {version}" for alias, version in sorted(model.aliases.items()))
    told = (latest.description or "").partition("\n\n[")[0]  # pages are linked below it
    return [model.name, str(len(versions)), str(latest.version), made, aliases, told]


def _versions(client: Any, name: str) -> list[Any]:
    return list(client.search_model_versions(f"name = '{name}'", max_results=10_000))


def _held(client: Any, name: str, training_key: str) -> list[int]:
    """The versions that hold this training, the oldest first."""
    return sorted(
        int(v.version)
        for v in _versions(client, name)
        if v.tags.get("flowsheet.training_key") == training_key
    )


def _ensure_name(client: Any, name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        with unless_there():
            client.create_registered_model(name)
