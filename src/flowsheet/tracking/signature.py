"""The signature of every model that MLflow loads."""

from __future__ import annotations

from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from flowsheet.prediction.input_rows import COLUMNS

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


def build_signature() -> ModelSignature:
    """Input and output columns; each table of the input uses some of the optional columns."""
    inputs = [
        ColSpec(_DTYPES.get(str(dtype), DataType.string), name, required=name in _REQUIRED)
        for name, dtype in COLUMNS.items()
    ]
    outputs = [ColSpec(dtype, name) for name, dtype in _OUTPUTS.items()]
    return ModelSignature(Schema(inputs), Schema(outputs))
