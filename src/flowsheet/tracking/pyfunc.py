"""The model that MLflow loads: rows of one long table in, risks out.

A copy of this file travels with every MLflow model (``code/flowsheet_pyfunc.py``). MLflow imports
it by that name and calls :func:`_load_pyfunc`, with or without Flowsheet installed; so the file
imports Flowsheet in functions only. An installed Flowsheet is used if it builds the inputs that the
model was trained on, and refuses the model otherwise. Where none is installed, the code in the
model package is used, after its sha256 has been compared with the package's manifest.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import json
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from flowsheet.prediction.model_package import ModelPackage

LOADER = "flowsheet_pyfunc"
"""Name of this module in an MLflow model."""
LOADER_DIGEST = "flowsheet.loader_digest"
"""Metadata of an MLflow model: sha256 of its copy of this file."""
PACKAGE_DIGEST = "flowsheet.package_digest"
"""Tag of an MLflow model and of its versions, and its metadata: sha256 of the manifest."""
RELEASE = "flowsheet.release"
"""Tag of an MLflow model and of its versions: the release of Flowsheet that trained it."""
_CODE, _MANIFEST = "code.zip", "manifest.json"
_RESTORE = "restore the files from a backup"


class PyfuncModel:
    """A model package with the interface of an MLflow model."""

    def __init__(self, model_package: ModelPackage) -> None:
        self.model_package = model_package

    def predict(self, rows: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict the risk at every step of every stay.

        Args:
            rows: one long table (see ``flowsheet.prediction.input_rows``).
            params: not used; part of MLflow's interface.

        Returns:
            One row a step of a stay: stay_id, time (ISO 8601), step, risk.

        Raises:
            MlflowException: the request is invalid (HTTP 400); the message locates the error.
        """
        import pandas as pd
        from mlflow.exceptions import MlflowException

        from flowsheet.errors import FlowsheetError
        from flowsheet.prediction.input_rows import from_rows

        try:
            tables = from_rows(rows, self.model_package.task.response)
            predictions = self.model_package.predict(tables)
        except FlowsheetError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return pd.DataFrame(
            {
                "stay_id": predictions["stay_id"].to_numpy(),
                "time": predictions["time"].dt.to_string("iso:strict").to_list(),
                "step": predictions["step"].cast(int).to_numpy(),
                "risk": predictions["risk"].to_numpy(),
            }
        )

    def get_raw_model(self) -> ModelPackage:
        """The model package, which predicts from the extract's tables: MLflow's interface."""
        return self.model_package


def _load_pyfunc(folder: str) -> PyfuncModel:
    """Load the model package in a subfolder of an MLflow model, verified against its ``MLmodel``.

    Raises:
        CheckFailed: the folder is not the package that was logged with the MLflow model; without
            Flowsheet an MlflowException.
    """
    package = Path(folder).resolve()
    metadata = _read_metadata(package)
    digest = metadata.get(PACKAGE_DIGEST)
    if LOADER_DIGEST not in metadata:  # of an earlier release, without code
        from flowsheet.prediction.model_package import ModelPackage

        return PyfuncModel(ModelPackage.load(package, digest))
    _verify_loader(package, metadata[LOADER_DIGEST])
    archive = _copy_verified_code(package, digest)
    if not _is_flowsheet_here():
        sys.path.insert(0, str(archive))
        importlib.invalidate_caches()
    return PyfuncModel(_load_package(package, digest, archive))


def _load_package(package: Path, digest: str | None, archive: Path) -> ModelPackage:
    try:
        from flowsheet.prediction.carried_code import load_with_code
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("flowsheet"):
            raise
        raise _refusal(
            "the installed Flowsheet is older than the model, and does not know its package",
            package,
            "install the release that trained it, or load it where Flowsheet is not installed",
        ) from error
    return load_with_code(package, digest, archive)


def _read_metadata(package: Path) -> dict[str, Any]:
    """What ``MLmodel`` says about the package."""
    mlmodel = package.parents[1] / "MLmodel"  # MLflow keeps the package in data/NAME
    if not mlmodel.is_file():
        raise _refusal(
            "the path of the model package leads out of the MLflow model",
            package,
            "restore the file MLmodel from a backup",
        )
    from mlflow.models import Model

    return dict(Model.load(str(mlmodel)).metadata or {})


def has_own_loader(mlflow_model: Path, digest: str) -> bool:
    """Whether the copy of this file in an MLflow model is the one that was logged."""
    code = [file for file in (mlflow_model / "code").rglob("*") if file.suffix != ".pyc"]
    files = [file for file in code if file.is_file()]
    return [file.name for file in files] == [f"{LOADER}.py"] and _sha256(files[0]) == digest


def _verify_loader(package: Path, digest: str) -> None:
    if not has_own_loader(package.parents[1], digest):
        raise _refusal(
            f"the code of the MLflow model was changed: code/{LOADER}.py", package, _RESTORE
        )


def _copy_verified_code(package: Path, digest: str | None) -> Path:
    """A copy of the package's code that nobody changes between the check and the import."""
    manifest = (package / _MANIFEST).read_bytes()
    code = (package / _CODE).read_bytes()
    expected = json.loads(manifest)["files"].get(_CODE)
    if hashlib.sha256(manifest).hexdigest() != digest:
        raise _refusal("the model package is not the one that was registered", package, _RESTORE)
    if hashlib.sha256(code).hexdigest() != expected:
        raise _refusal(
            f"the model package was changed after training: changed: {_CODE}", package, _RESTORE
        )
    folder = tempfile.mkdtemp(prefix="flowsheet-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    archive = Path(folder) / _CODE
    archive.write_bytes(code)
    return archive


def _is_flowsheet_here() -> bool:
    """Whether Flowsheet is installed, or was imported from another model's package."""
    if "flowsheet" in sys.modules:
        return True
    spec = find_spec("flowsheet")
    return spec is not None and spec.origin is not None


def _refusal(what: str, package: Path, todo: str) -> Exception:
    """The error to raise: Flowsheet's own where it is installed, MLflow's otherwise."""
    if _is_flowsheet_here():
        from flowsheet.errors import CheckFailed

        return CheckFailed(what, where=str(package), todo=todo)
    from mlflow.exceptions import MlflowException

    error: Exception = MlflowException(f"{what}\n  where: {package}\n  do:    {todo}")
    return error


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
