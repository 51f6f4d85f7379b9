"""Download the model package of a registered version, and verify it before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowsheet.errors import CheckFailed, first_line
from flowsheet.prediction.manifest import verify_manifest
from flowsheet.tracking.pyfunc import LOADER, LOADER_DIGEST, PACKAGE_DIGEST, has_own_loader
from flowsheet.tracking.store import as_default

_LOADERS = (LOADER, "flowsheet.tracking.pyfunc")
"""How MLflow loads a model; the second one in packages of earlier releases."""
_RESTORE = "restore the artifacts from a backup"


def download_package(uri: str, reference: str, digest: str, folder: Path) -> Path:
    """Download the MLflow model of a version; returns the folder of the model package in it.

    Args:
        uri: MLflow's URI of the version.
        reference: ``NAME/VERSION``, for error messages.
        digest: of the package that was registered.
        folder: where to download it to.

    Raises:
        CheckFailed: the package is not the one that was registered, was not made by Flowsheet, or
            is not in the artifact store.
    """
    package = _find_package(_download(uri, reference, folder), reference)
    if not digest:
        raise CheckFailed(
            f"the version has no tag {PACKAGE_DIGEST}, so its package cannot be verified",
            where=reference,
            todo="run its experiment again, which registers the model with its digest",
        )
    try:
        verify_manifest(package, digest)
    except CheckFailed as error:
        raise CheckFailed(error.what, where=reference, todo=error.todo) from None
    return package


def _download(uri: str, reference: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    reason = "no file MLmodel"
    try:
        with as_default():
            mlflow_model = Path(download_artifacts(uri, dst_path=str(folder))).resolve()
        if (mlflow_model / "MLmodel").is_file():
            return mlflow_model
    except (MlflowException, OSError) as error:
        reason = first_line(error)
        if not isinstance(error, FileNotFoundError) and "No such artifact" not in reason:
            raise
    raise CheckFailed(
        f"the package of the model is not in the artifact store: {reason}",
        where=reference,
        todo=_RESTORE,
    )


def _find_package(mlflow_model: Path, reference: str) -> Path:
    """The folder that ``MLmodel`` names as the model package."""
    model = _read_model(mlflow_model, reference)
    flavor: Mapping[str, Any] = model.flavors.get("python_function", {})
    if flavor.get("loader_module") not in _LOADERS:
        raise CheckFailed(
            "the model was not packaged by Flowsheet",
            where=reference,
            todo="register a model of a Flowsheet experiment",
        )
    package = (mlflow_model / str(flavor.get("data"))).resolve()
    if not package.is_dir() or mlflow_model not in package.parents:
        raise CheckFailed(
            f"the file MLmodel names {flavor.get('data')!r} as the model package, "
            "which is no folder of the MLflow model",
            where=reference,
            todo=_RESTORE,
        )
    loader_digest = (model.metadata or {}).get(LOADER_DIGEST)
    if loader_digest and not has_own_loader(mlflow_model, loader_digest):
        raise CheckFailed(
            f"the code of the MLflow model was changed: code/{LOADER}.py",
            where=reference,
            todo=_RESTORE,
        )
    return package


def _read_model(mlflow_model: Path, reference: str) -> Any:
    """What the file ``MLmodel`` says: how MLflow loads the model, and its metadata."""
    from mlflow.models import Model

    try:
        model = Model.load(str(mlflow_model))
        if not isinstance(model.flavors.get("python_function", {}), Mapping):
            raise TypeError("its flavor python_function is no mapping")
        return model
    except Exception as error:  # of YAML, of MLflow, or of what it makes of wrong values
        raise CheckFailed(
            f"the file MLmodel cannot be read: {first_line(error)}",
            where=reference,
            todo=_RESTORE,
        ) from error
