"""A server goes on while the MLflow server is down, and needs it to start (docs/deploy.md)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from flowsheet.errors import FlowsheetError
from flowsheet.serving.app import make_app
from flowsheet.serving.service import Service
from flowsheet.serving.settings import ServeConfig
from flowsheet.tracking.model_registry import register
from flowsheet.tracking.packaging import log_model
from flowsheet.tracking.store import connect
from tests.e2e.servers import mlflow_server
from tests.request_bodies import encode_body, select_stays

pytestmark = [pytest.mark.slow, pytest.mark.server]
JSON = {"content-type": "application/json"}
NAME = "ward-model"


def wait_for_status(client: TestClient, status: str) -> dict:
    """The server's health, as soon as it has that status."""
    deadline = time.monotonic() + 120
    while (health := client.get("/health").json())["status"] != status:
        assert time.monotonic() < deadline, health
        time.sleep(0.1)
    return health


def test_a_server_answers_while_mlflow_is_down(
    challenger_package, model_package, ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mlflow = mlflow_server(tmp_path)
    for name, value in {
        "FLOWSHEET_HOME": str(tmp_path / "home"),
        "MLFLOW_TRACKING_URI": mlflow.url,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    body = encode_body(select_stays(ward, ward.stays["stay_id"][0]))

    def promote(package) -> None:
        client = connect()
        run = client.create_run("0").info.run_id
        version = register(NAME, run, log_model(run, package.folder), package.training_key)
        client.set_registered_model_alias(NAME, "champion", str(version))

    def ask(client: TestClient) -> int:
        answer = client.post("/predict", content=body, headers=JSON)
        assert answer.status_code == 200
        return int(answer.json()["model"]["version"])

    service = Service(ServeConfig(name=NAME, poll_seconds=0.2))
    with mlflow.running():
        promote(challenger_package)
        service.load()
    with TestClient(make_app(service), base_url="http://localhost") as client:
        assert wait_for_status(client, "degraded")["champion"]["version"] == 1
        assert client.get("/ready").status_code == 200
        assert ask(client) == 1
        with pytest.raises(FlowsheetError):
            Service(ServeConfig(name=NAME)).load()
        with mlflow.running():
            wait_for_status(client, "ok")
            promote(model_package)
            deadline = time.monotonic() + 120
            while ask(client) != 2:
                assert time.monotonic() < deadline
                time.sleep(0.2)
