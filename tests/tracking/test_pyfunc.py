from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException

from flowsheet.prediction.input_rows import example_tables, to_rows
from flowsheet.tracking.pyfunc import PyfuncModel


def test_an_invalid_request_is_a_client_error(model_package):
    rows = to_rows(example_tables()).assign(table="event")
    with pytest.raises(MlflowException, match="'event'") as rejected:
        PyfuncModel(model_package).predict(rows)
    assert rejected.value.get_http_status_code() == 400
