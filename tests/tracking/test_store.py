from __future__ import annotations

import subprocess
import sys

import pytest

from flowsheet.tracking import store as module
from flowsheet.tracking.store import RetryingClient, TrackerUnreachable, tracking_uri


def test_a_call_is_repeated_while_the_file_is_locked(monkeypatch):
    class LockedThreeTimes:
        calls = 0

        def get(self, value):
            self.calls += 1
            if self.calls < 4:
                raise RuntimeError("(sqlite3.OperationalError) database is locked")
            if value is None:
                raise KeyError("another error")
            return value

    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    assert RetryingClient(LockedThreeTimes()).get(7) == 7
    with pytest.raises(KeyError, match="another error"):
        RetryingClient(LockedThreeTimes()).get(None)


def test_a_server_that_does_not_answer_is_an_error_without_its_password(monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:hush@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = RetryingClient(MlflowClient(tracking_uri=tracking_uri()))
    with pytest.raises(TrackerUnreachable, match="the MLflow server does not answer") as outage:
        client.get_run("0" * 32)
    assert outage.value.where == "http://127.0.0.1:1"


def test_telemetry_is_off_before_mlflow_is_imported():
    code = (
        "from flowsheet.tracking.store import connect; import os; connect();"
        "assert os.environ['MLFLOW_DISABLE_TELEMETRY'] == 'true';"
        "from mlflow.telemetry.utils import is_telemetry_disabled; assert is_telemetry_disabled();"
        "from mlflow.telemetry.client import get_telemetry_client;"
        "assert get_telemetry_client() is None"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        encoding="utf-8",
    )
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr == ""
