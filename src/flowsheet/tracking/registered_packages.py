"""The model packages of registered versions: verified when they are read."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from flowsheet.prediction.model_package import ModelPackage
from flowsheet.state.json_files import read_json
from flowsheet.tracking.model_registry import ModelVersion, get_package_digest
from flowsheet.tracking.package_download import download_package
from flowsheet.tracking.store import as_default


def load_package(version: ModelVersion) -> ModelPackage:
    """Load the model package of a version into memory.

    Raises:
        CheckFailed: the package is not the one that was registered, was not made by Flowsheet, or
            by an incompatible release.
    """
    with open_package(version) as folder:
        return ModelPackage.load(folder)


@lru_cache(1)
def load_package_once(version: ModelVersion) -> ModelPackage:
    """As :func:`load_package`, for a process that predicts one batch after another."""
    return load_package(version)


def read_package_info(version: ModelVersion) -> dict[str, Any]:
    """The package's ``package.json``, without loading the model.

    Raises:
        CheckFailed: the package is not the one that was registered, or was not made by Flowsheet.
    """
    with open_package(version) as folder:
        info: dict[str, Any] = read_json(folder / "package.json")
        return info


@contextlib.contextmanager
def open_package(version: ModelVersion) -> Iterator[Path]:
    """The folder of a version's model package during the block, downloaded and verified.

    Raises:
        CheckFailed: the package is not the one that was registered, or was not made by Flowsheet.
    """
    with tempfile.TemporaryDirectory() as temporary:
        yield download_package(
            version.uri, version.reference, get_package_digest(version), Path(temporary)
        )


def has_current_signature(version: ModelVersion) -> bool:
    """Whether the package has the input and output columns of this release."""
    from mlflow.models import get_model_info

    from flowsheet.tracking.signature import build_signature

    with as_default():
        return bool(get_model_info(version.uri).signature == build_signature())
