"""Load a model package with the code that it carries, for MLflow: see ``package_code``."""

from __future__ import annotations

import hashlib
import importlib
import sys
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flowsheet.cohort.own_concepts import add_carried_concepts
from flowsheet.errors import CheckFailed, first_line
from flowsheet.models.base import MODELS
from flowsheet.prediction.manifest import verify_manifest
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.prediction.package_code import CODE
from flowsheet.state.json_files import read_json

_carried: dict[str, str] = {}
"""{plug-in's package that was imported from an archive: digest of its modules}."""


def load_with_code(folder: Path, digest: str | None, archive: Path) -> ModelPackage:
    """Load a model package whose plug-in and own concepts need not be known here.

    Args:
        folder: the model package.
        digest: the package's digest, where it is recorded outside of the package.
        archive: a copy of its code that nobody can change.

    Raises:
        CheckFailed: the package cannot be verified, or its plug-in cannot be imported.
    """
    verify_manifest(folder, digest)
    description = read_json(folder / "package.json")
    add_carried_concepts(description.get("own_concepts", {}))
    plugin = description.get("plugin")
    if plugin and description["kind"] not in MODELS.names():
        _import_plugin(folder, description["kind"], plugin, archive)
    return ModelPackage.load(folder, digest)


def _import_plugin(folder: Path, kind: str, plugin: Mapping[str, Any], archive: Path) -> None:
    """Import the model's class from the package's code and register it."""
    module = plugin["module"]
    _make_importable(module.partition(".")[0], archive, folder)
    try:
        cls = getattr(importlib.import_module(module), plugin["class"])
    except (ImportError, AttributeError) as error:
        libraries = ", ".join(plugin["not_included"])
        raise CheckFailed(
            f"the code of the model {kind!r} cannot be imported: {first_line(error)}",
            where=str(folder / CODE),
            todo=f"install what its package cannot require: {libraries}"
            if libraries
            else "define the model in a module of a project, and train it again",
        ) from error
    if kind not in MODELS.names():
        MODELS.add(kind, cls)


def _make_importable(name: str, archive: Path, folder: Path) -> None:
    """Let Python find the plug-in's package in the archive, the last place that it searches.

    Raises:
        CheckFailed: another package has that name, with which this one would be mixed.
    """
    digest = _digest_of_package(name, archive)
    if name not in _carried and find_spec(name) is None:
        _carried[name] = digest
        sys.path.append(str(archive))
        importlib.invalidate_caches()
    if _carried.get(name) != digest:
        raise CheckFailed(
            f"another package is called {name!r}",
            where=str(folder / CODE),
            todo="load this model in a process of its own",
        )


def _digest_of_package(name: str, archive: Path) -> str:
    content = hashlib.sha256()
    with zipfile.ZipFile(archive) as files:
        for file in sorted(files.namelist()):
            if file.startswith(f"{name}/") or file == f"{name}.py":
                content.update(f"{file}\0".encode() + files.read(file))
    return content.hexdigest()
