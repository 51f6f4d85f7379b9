"""Tasks are retried when a server does not answer, and only then."""

from __future__ import annotations

import pytest
import requests
import sqlalchemy.exc
from mlflow.exceptions import MlflowException

from flows.retries import is_outage
from flowsheet.errors import CheckFailed, Unreachable, UsageError

OUTAGES = [
    ConnectionRefusedError(),
    requests.exceptions.ConnectionError(),
    sqlalchemy.exc.OperationalError("select 1", {}, Exception("server closed the connection")),
    MlflowException("API request to http://127.0.0.1:5000/api failed with exception"),
    Unreachable("the Optuna database cannot be reached"),
]


@pytest.mark.parametrize("error", OUTAGES)
def test_a_server_that_does_not_answer_is_an_outage(error):
    assert is_outage(error)


def test_an_error_that_was_caused_by_an_outage_is_one():
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = OUTAGES[0]
    assert is_outage(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        CheckFailed("3 failures"),
        UsageError("no such key"),
        ValueError(),
        FileNotFoundError(),
        MlflowException("no run"),
    ],
)
def test_other_errors_are_no_outage(error):
    assert not is_outage(error)
