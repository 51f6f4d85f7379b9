"""Notifications of failed and late runs, drift and promotions reach a webhook on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
import yaml

from tests.conftest import ROOT
from tests.e2e.servers import Server, prefect_server, quiet_environment
from tests.e2e.stack import wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow]
CREATE_BLOCK = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock

message = {"subject": "{{subject}}", "body": "{{body}}"}
block = CustomWebhookNotificationBlock(name="sink", url=sys.argv[1], json_data=message)
block.save("flowsheet")
"""
CAUSE_EVENTS = """
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.states import Completed, Failed, Running, Scheduled, State, StateType
from flows.records import flush_records

@flow(name="retrain")
def retrain(): ...

@flow(name="train")
def train(): ...

@flow(name="promotion")
def promotion(): ...

def set_state(client, flow, state):
    run = client.create_flow_run(flow, name=f"{flow.name}-of-a-test", state=Running())
    client.set_flow_run_state(run.id, state, force=True)

with get_client(sync_client=True) as client:
    set_state(client, retrain, Failed(message="no such column"))
    set_state(client, train, Failed(message="of one training: it is replaced"))
    set_state(client, retrain, Scheduled(name="Late"))
    set_state(client, promotion, State(type=StateType.PAUSED, name="Suspended"))
    set_state(client, promotion, Completed(name="Refused", message="demo-lstm/4: calibration"))
emit_event(
    event="flowsheet.drift",
    resource={"prefect.resource.id": "flowsheet.model.demo-lstm"},
    payload={"model": "demo-lstm", "version": 3, "count": 2, "report": "report.html",
             "flags": [{"summary": "hr has moved"}, {"summary": "temp has moved"}]},
)
flush_records()
"""


class Sink(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    messages: ClassVar[list[dict[str, str]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.messages.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def sink() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def run_python(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **quiet_environment(),
        "PREFECT_API_URL": server.url,
        "PREFECT_HOME": str(server.log.parent / "client"),
    }
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        encoding="utf-8",
    )


def test_people_are_notified(tmp_path, sink):
    automations = yaml.safe_load((ROOT / "automations.yaml").read_text(encoding="utf-8"))
    names = [automation["name"] for automation in automations["automations"]]
    with prefect_server(tmp_path).running() as server:
        result = run_python(server, "-m", "flows.notifications", "custom-webhook/flowsheet")
        assert result.returncode == 2
        assert "has no block custom-webhook/flowsheet" in result.stderr
        result = run_python(server, "-c", CREATE_BLOCK, sink)
        assert result.returncode == 0, result.stderr
        for _ in range(2):  # the second time brings them up to date
            result = run_python(server, "-m", "flows.notifications", "custom-webhook/flowsheet")
            assert result.returncode == 0, result.stderr
            assert result.stdout.splitlines() == names
        result = run_python(server, "-c", CAUSE_EVENTS)
        assert result.returncode == 0, result.stderr
        wait_until(lambda: len(Sink.messages) >= 5, 120)
    bodies = {message["subject"]: message["body"] for message in Sink.messages}
    assert len(Sink.messages) == 5
    assert set(bodies) == {
        "Flowsheet: retrain-of-a-test failed",
        "Flowsheet: retrain-of-a-test is late",
        "Flowsheet: promotion-of-a-test waits for your approval",
        "Flowsheet: promotion-of-a-test was refused",
        "Flowsheet: demo-lstm/3: 2 flags",
    }
    assert "no such column" in bodies["Flowsheet: retrain-of-a-test failed"]
    assert "demo-lstm/4: calibration" in bodies["Flowsheet: promotion-of-a-test was refused"]
    drift = bodies["Flowsheet: demo-lstm/3: 2 flags"]
    assert drift.splitlines() == ["hr has moved", "temp has moved", "report: report.html"]
