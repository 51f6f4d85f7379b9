"""What MLflow loads when it serves a model package: rows of the long table in, risks out.

MLflow imports this module by the name that is written in the package (``loader_module``) and calls
:func:`_load_pyfunc`; the package holds no code and no pickle.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from flowsheet.errors import FlowsheetError
from flowsheet.prediction.input_rows import COLUMNS, from_rows
from flowsheet.prediction.model_package import ModelPackage

if TYPE_CHECKING:
    import pandas as pd

_KINDS = {"Int64": DataType.long, "Float64": DataType.double, "String": DataType.string}


class PyfuncModel:
    """A model package with pandas at its door."""

    def __init__(self, model_package: ModelPackage) -> None:
        self.model_package = model_package

    def predict(self, rows: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row a step of a stay: stay_id, time (ISO 8601), step, risk.

        Raises:
            MlflowException: the request is wrong (HTTP 400); the message says where.
        """
        try:
            answer = self.model_package.predict(from_rows(rows))
        except FlowsheetError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        text = answer.with_columns(
            answer["time"].dt.to_string("iso:strict"), answer["step"].cast(int)
        )
        return text.to_pandas()


def build_signature() -> ModelSignature:
    """The columns of the door: ``table`` and ``stay_id`` always, the others where the table has them."""
    asked = [
        ColSpec(_KINDS.get(str(kind), DataType.string), name, required=name in {"table", "stay_id"})
        for name, kind in COLUMNS.items()
    ]
    given = {
        "stay_id": DataType.long,
        "time": DataType.string,
        "step": DataType.long,
        "risk": DataType.double,
    }
    return ModelSignature(
        Schema(asked), Schema([ColSpec(kind, name) for name, kind in given.items()])
    )


def _load_pyfunc(folder: str) -> PyfuncModel:
    return PyfuncModel(ModelPackage.load(Path(folder)))
