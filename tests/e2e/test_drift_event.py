"""Monitoring's event on a real Prefect server: a flag starts retraining, once somebody has decided that it should."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.e2e.conftest import ask
from tests.e2e.servers import Server, plain, prefect_server
from tests.e2e.stack import await_

pytestmark = [pytest.mark.server]
TRIGGER = next(
    trigger["name"]
    for each in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    for trigger in each.get("triggers", [])
)
TELL = """
from flows.monitoring import emit_drift_event
from flows.records import flush_records
from flowsheet.lifecycle.deployment.monitoring import Flag, MonitoringResult
from flowsheet.lifecycle.experiment.stage import Stage
made = Stage(kind="monitoring", key="0" * 64, path="nowhere", reused=False, seconds=1.0)
flags = (Flag(kind="measured_value", name="temp", summary="temp has moved"),)
emit_drift_event(MonitoringResult(stage=made, model="demo-lstm", version=3, stays=200, tests=10, alpha=0.01, flags=flags,
                report="report.html", run_id="0" * 32))
flush_records()
"""


def prefect(server: Server, *words: str) -> None:
    environment = {
        **plain(),
        "PREFECT_API_URL": server.url,
        "PREFECT_HOME": str(server.log.parent / "client"),
    }
    done = subprocess.run(
        [sys.executable, *words],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that knows what prefect.yaml declares; nobody works for it."""
    with prefect_server(tmp_path_factory.mktemp("prefect")).running() as found:
        for pool in ("cpu", "gpu"):
            body = {"name": pool, "type": "process", "base_job_template": {}}
            ask(found.url, "/work_pools/", body)
        prefect(found, "-m", "prefect", "--no-prompt", "deploy", "--all")
        yield found


def started_by_an_event(server: Server) -> list[dict[str, Any]]:
    runs = ask(server.url, "/flow_runs/filter", {"flows": {"name": {"any_": ["retrain"]}}})
    return [run for run in runs if (run["created_by"] or {}).get("type") == "AUTOMATION"]


def events(server: Server) -> list[dict[str, Any]]:
    wanted = {
        "filter": {
            "event": {"name": ["flowsheet.drift"]},
            "occurred": {"since": "2020-01-01T00:00:00Z"},
        }
    }
    return list(ask(server.url, "/events/filter", wanted)["events"])


def test_a_flag_starts_retraining_once_somebody_has_switched_that_on(server: Server):
    (declared,) = [
        each for each in ask(server.url, "/automations/filter", {}) if each["name"] == TRIGGER
    ]
    assert not declared["enabled"]
    prefect(server, "-c", TELL)
    (event,) = await_(lambda: events(server), 60)
    assert event["resource"]["prefect.resource.id"] == "flowsheet.model.demo-lstm"
    assert event["payload"]["count"] == 1
    time.sleep(3)
    assert started_by_an_event(server) == []

    prefect(server, "-m", "prefect", "--no-prompt", "automation", "resume", TRIGGER)
    with urllib.request.urlopen(f"{server.url}/automations/{declared['id']}", timeout=30) as answer:
        assert json.load(answer)["enabled"]
    await_(lambda: bool(prefect(server, "-c", TELL)) or started_by_an_event(server), 120)
    (run, *_) = started_by_an_event(server)
    assert run["state_type"] == "SCHEDULED"
    assert run["parameters"] == {"experiment": "demo", "overrides": [], "champions": []}
    assert run["work_pool_name"] == "cpu"
