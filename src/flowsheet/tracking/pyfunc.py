"""The model that MLflow loads: rows of one long table in, risks out.

MLflow imports this module by the name in the package (``loader_module``) and calls
:func:`_load_pyfunc`; the package contains neither code nor pickles.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.prediction.input_rows import COLUMNS, from_rows
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.tracking.packaging import PACKAGE_DIGEST

if TYPE_CHECKING:
    import pandas as pd

_DTYPES = {
    "Int64": DataType.long,
    "Float64": DataType.double,
    "String": DataType.string,
    "Boolean": DataType.boolean,
}
"""{polars' data type: MLflow's}; the other columns are text."""
_REQUIRED = {"table", "stay_id"}
_OUTPUTS = {
    "stay_id": DataType.long,
    "time": DataType.string,
    "step": DataType.long,
    "risk": DataType.double,
}


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
        try:
            predictions = self.model_package.predict(from_rows(rows))
        except FlowsheetError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        time = predictions["time"].dt.to_string("iso:strict")
        return predictions.with_columns(time, predictions["step"].cast(int)).to_pandas()


def build_signature() -> ModelSignature:
    """Input and output columns; each table of the input uses some of the optional columns."""
    inputs = [
        ColSpec(_DTYPES.get(str(dtype), DataType.string), name, required=name in _REQUIRED)
        for name, dtype in COLUMNS.items()
    ]
    outputs = [ColSpec(dtype, name) for name, dtype in _OUTPUTS.items()]
    return ModelSignature(Schema(inputs), Schema(outputs))


def _load_pyfunc(folder: str) -> PyfuncModel:
    """Load the model package in a subfolder of an MLflow model, verified against its ``MLmodel``.

    Raises:
        CheckFailed: the folder is not the package that was logged with the MLflow model.
    """
    package = Path(folder).resolve()
    mlmodel = package.parents[1] / "MLmodel"  # MLflow keeps the package in data/NAME
    if not mlmodel.is_file():
        raise CheckFailed(
            "the path of the model package leads out of the MLflow model",
            where=str(package),
            todo="restore the file MLmodel from a backup",
        )
    metadata = Model.load(str(mlmodel)).metadata or {}
    return PyfuncModel(ModelPackage.load(package, metadata.get(PACKAGE_DIGEST)))
