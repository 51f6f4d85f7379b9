"""The drift event on a real Prefect server starts a retraining once the trigger is enabled."""

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

from flowsheet.compose import compose
from tests.conftest import ROOT
from tests.e2e.conftest import post
from tests.e2e.servers import Server, prefect_server, quiet_environment
from tests.e2e.stack import wait_until

pytestmark = [pytest.mark.server]
TRIGGER = next(
    trigger["name"]
    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))[
        "deployments"
    ]
    for trigger in deployment.get("triggers", [])
)
EMIT_EVENT = """
from flows.monitoring import emit_drift_event
from flows.records import flush_records
from flowsheet.lifecycle.deployment.monitoring import Flag, MonitoringResult
from flowsheet.lifecycle.experiment.stage import Stage

result = MonitoringResult(
    stage=Stage(kind="monitoring", key="0" * 64, path="missing", reused=False, seconds=1.0),
    model="demo-lstm",
    version=3,
    stays=200,
    tests=10,
    alpha=0.01,
    flags=(Flag(kind="measured_value", name="temp", summary="temp has moved"),),
    judged=True,
    headline="temp has moved",
    calibration="",
    alert_share=0.1,
    report="report.html",
    run_id="0" * 32,
)
emit_drift_event(result, "/extracts/march")
flush_records()
"""


def run_python(server: Server, *arguments: str) -> None:
    """Run Python as a client of the server."""
    environment = {
        **quiet_environment(),
        "PREFECT_API_URL": server.url,
        "PREFECT_HOME": str(server.log.parent / "client"),
    }
    result = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the deployments of prefect.yaml, without any worker."""
    with prefect_server(tmp_path_factory.mktemp("prefect")).running() as running_server:
        for pool in ("cpu", "gpu"):
            body = {"name": pool, "type": "process", "base_job_template": {}}
            post(running_server.url, "/work_pools/", body)
        run_python(running_server, "-m", "prefect", "--no-prompt", "deploy", "--all")
        yield running_server


def list_triggered_runs(server: Server) -> list[dict[str, Any]]:
    by_flow = {"flows": {"name": {"any_": ["retrain"]}}}
    runs = post(server.url, "/flow_runs/filter", by_flow)
    return [run for run in runs if (run["created_by"] or {}).get("type") == "AUTOMATION"]


def list_drift_events(server: Server) -> list[dict[str, Any]]:
    by_name = {
        "event": {"name": ["flowsheet.drift"]},
        "occurred": {"since": "2020-01-01T00:00:00Z"},
    }
    return list(post(server.url, "/events/filter", {"filter": by_name})["events"])


def get_trigger(server: Server) -> dict[str, Any]:
    automations = post(server.url, "/automations/filter", {})
    (trigger,) = [automation for automation in automations if automation["name"] == TRIGGER]
    url = f"{server.url}/automations/{trigger['id']}"
    with urllib.request.urlopen(url, timeout=30) as response:
        return dict(json.load(response))


@pytest.mark.slow
def test_a_flag_starts_a_retraining_only_while_the_trigger_is_enabled(server: Server):
    assert not get_trigger(server)["enabled"]
    run_python(server, "-c", EMIT_EVENT)
    (event,) = wait_until(lambda: list_drift_events(server), 60)
    assert event["resource"]["prefect.resource.id"] == "flowsheet.model.demo-lstm"
    assert event["payload"]["count"] == 1
    assert event["payload"]["version"] == 3
    time.sleep(3)
    assert list_triggered_runs(server) == []

    run_python(server, "-m", "prefect", "--no-prompt", "automation", "resume", TRIGGER)
    assert get_trigger(server)["enabled"]

    def emit_until_triggered():
        run_python(server, "-c", EMIT_EVENT)
        return list_triggered_runs(server)

    run, *_ = wait_until(emit_until_triggered, 120)
    assert run["state_type"] == "SCHEDULED"
    assert run["parameters"] == {
        "experiment": "demo",
        "overrides": ["compute=cpu_pool", "cohort=extract", "cohort.path=/extracts/march"],
        "champions": ["demo-lstm/3"],
    }
    config = compose(run["parameters"]["experiment"], run["parameters"]["overrides"])
    assert (config.cohort.source, config.cohort.path) == ("extract", "/extracts/march")
    assert run["work_pool_name"] == "cpu"
