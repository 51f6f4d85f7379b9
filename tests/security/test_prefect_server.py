"""The Prefect server that Flowsheet starts answers its own page and the run's processes only."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from flowsheet.lifecycle.runtime.local_servers import is_responding, prefect_api
from flowsheet.state.json_files import read_json
from tests.prefect_database import copy_database
from tests.security.foreign_requests import find_answered, send

pytestmark = pytest.mark.server

READ_SETTINGS = """
import json, os
from prefect.settings import get_current_settings
from prefect.client.orchestration import get_client
settings = get_current_settings()
with get_client(sync_client=True) as client:
    flow_id = client.create_flow_from_name("made by a client")
print(json.dumps({
    "login": settings.api.auth_string.get_secret_value(),
    "csrf": settings.client.csrf_support_enabled,
    "flow": str(flow_id),
}))
"""

HOLD_A_SERVER = """
import time
from flowsheet.lifecycle.runtime.local_servers import prefect_api
with prefect_api() as url:
    print(url, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _no_servers_configured(
    monkeypatch: pytest.MonkeyPatch, flowsheet_home: Path, prefect_database: Path
):
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    copy_database(prefect_database, flowsheet_home)


def run_python(code: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def get_json(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def open_websocket(port: int, headers: dict[str, str]) -> bytes:
    """The first line of the answer to a WebSocket handshake."""
    lines = {
        "Host": f"127.0.0.1:{port}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "prefect",
        **headers,
    }
    request = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"GET /api/events/in HTTP/1.1\r\n{request}\r\n".encode())
        return connection.recv(4096).split(b"\r\n", 1)[0]


def test_a_run_s_server_answers_neither_foreign_pages_nor_callers_without_its_login(
    flowsheet_home: Path,
):
    with prefect_api() as url:
        port = int(url.removesuffix("/api").rsplit(":", 1)[1])
        pages = ("/", "/ui-settings", "/docs", "/assets/x.js", "/api/health", "/api/flows/filter")
        assert find_answered(port, *pages) == []
        assert b" 101 " in open_websocket(port, {})
        assert b" 403 " in open_websocket(port, {"Origin": "http://evil.example"})
        assert b" 403 " in open_websocket(port, {"Host": "evil.example"})

        for own in ({}, {"Host": "localhost:{port}"}, {"Origin": "http://localhost:{port}"}):
            assert send(port, "/api/health", own)[0] == 200
            assert send(port, "/api/admin/version", own)[0] == 401, "no login was asked for"
        page = get_json(f"http://127.0.0.1:{port}/ui-settings")
        assert (page["api_url"], page["csrf_enabled"], page["auth"]) == (url, True, "BASIC")

        client = run_python(READ_SETTINGS)
        assert client["login"] == os.environ["PREFECT_API_AUTH_STRING"]
        assert client["csrf"]
        assert read_json(flowsheet_home / "prefect" / "server.json")["login"] == client["login"]
        assert (flowsheet_home / "prefect").stat().st_mode & 0o077 == 0
    assert "PREFECT_API_AUTH_STRING" not in os.environ


@pytest.mark.slow
def test_the_user_s_own_login_is_used_on_both_sides_and_written_nowhere(
    flowsheet_home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "ada:hush-in-login")
    with prefect_api():
        assert run_python(READ_SETTINGS)["login"] == "ada:hush-in-login"
        assert read_json(flowsheet_home / "prefect" / "server.json")["login"] is None
    files = [file for file in flowsheet_home.rglob("*") if file.is_file()]
    assert [file for file in files if b"hush" in file.read_bytes()] == []


def test_the_server_of_a_killed_process_ends_by_itself(flowsheet_home: Path):
    command = [sys.executable, "-c", HOLD_A_SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        assert is_responding(f"{url}/health")
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while is_responding(f"{url}/health"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not (flowsheet_home / "prefect" / "server.json").exists()
