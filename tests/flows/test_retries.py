"""Tasks are retried when a server does not answer, and only then."""

from __future__ import annotations

import httpx
import pytest
import requests
import sqlalchemy.exc
from mlflow.exceptions import MlflowException
from prefect.exceptions import PrefectHTTPStatusError

import flows.retries
from flows.retries import is_outage
from flowsheet.errors import CheckFailed, Unreachable, UsageError


def make_prefect_error(status: int) -> PrefectHTTPStatusError:
    request = httpx.Request("GET", "http://prefect/api/flow_runs/filter")
    response = httpx.Response(status, request=request)
    return PrefectHTTPStatusError("error", request=request, response=response)


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


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_server_errors_are_outages_of_prefect_mlflow_and_their_proxies(status):
    assert is_outage(make_prefect_error(status))
    artifact = requests.Response()
    artifact.status_code = status
    assert is_outage(requests.exceptions.HTTPError("error", response=artifact))
    text = (
        f"API request to endpoint /api/2.0/mlflow/runs/get failed with error code {status} != 200"
    )
    assert is_outage(MlflowException(text))


@pytest.mark.parametrize("status", [400, 404, 409, 422])
def test_a_refused_request_is_no_outage(status):
    assert not is_outage(make_prefect_error(status))


def test_errors_of_prefects_client_are_explained(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect:4200/api")
    monkeypatch.setattr(flows.retries, "is_responding", lambda url: True)
    login = flows.retries.explain_prefect_error(make_prefect_error(401))
    assert isinstance(login, UsageError)
    assert "PREFECT_API_AUTH_STRING" in login.todo
    server_error = flows.retries.explain_prefect_error(make_prefect_error(502))
    assert "HTTP 502" in server_error.what
    assert flows.retries.explain_prefect_error(make_prefect_error(404)) is None
    asked = []
    monkeypatch.setattr(flows.retries, "is_responding", asked.append)
    outage = flows.retries.explain_prefect_error(make_prefect_error(500))
    assert outage.what == "the Prefect server does not answer"
    assert asked == ["http://prefect:4200/api/ready"]  # /health answers while the database is down
