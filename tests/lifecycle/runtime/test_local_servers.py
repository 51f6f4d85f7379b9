"""All processes that use one state folder share one Prefect server, as long as one needs it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from flowsheet.lifecycle.runtime.local_servers import (
    find_free_port,
    is_responding,
    prefect_api,
    start_server,
    use_quiet_settings,
)
from flowsheet.state.json_files import read_json, write_json
from tests.conftest import ROOT
from tests.prefect_database import copy_database

UNUSED_PID = 2**22 + 1
"""Larger than any process id."""


@pytest.fixture(autouse=True)
def prefect_folder(
    monkeypatch: pytest.MonkeyPatch, flowsheet_home: Path, prefect_database: Path
) -> Path:
    """The folder of the shared server; no server is configured or running."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    folder = flowsheet_home / "prefect"
    monkeypatch.setenv("PREFECT_HOME", str(folder))
    use_quiet_settings()
    copy_database(prefect_database, flowsheet_home)
    return folder


@pytest.mark.server
def test_users_share_a_server_and_the_last_one_stops_it(prefect_folder: Path):
    state_file = prefect_folder / "server.json"
    ended_server = {"url": f"http://127.0.0.1:{find_free_port()}/api", "pid": UNUSED_PID}
    write_json(state_file, ended_server)
    with prefect_api() as first:
        assert is_responding(f"{first}/health")
        assert os.environ["PREFECT_API_URL"] == first
        del os.environ["PREFECT_API_URL"]  # as in another process
        with prefect_api() as second:
            assert second == first
        assert is_responding(f"{first}/health")
        assert read_json(state_file)["url"] == first
    assert not is_responding(f"{first}/health")
    assert not state_file.exists()


@pytest.mark.server
def test_a_server_that_never_finished_starting_is_replaced(prefect_folder: Path):
    port = find_free_port()
    command = ["-P", str(ROOT / "flows" / "prefect_server.py"), str(port), str(prefect_folder)]
    log = prefect_folder / "server.log"
    starting = start_server(command, log, {"PREFECT_HOME": str(prefect_folder)})
    command_line = Path(f"/proc/{starting.pid}/cmdline")
    while not command_line.read_bytes():  # it is empty until the program is loaded
        time.sleep(0.01)
    state = {"url": f"http://127.0.0.1:{port}/api", "pid": starting.pid}
    write_json(prefect_folder / "server.json", state)
    with prefect_api() as url:
        assert is_responding(f"{url}/health")
        assert str(port) not in url
        assert starting.poll() is not None


def test_a_configured_server_is_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    urls = []
    with prefect_api(while_starting=lambda: urls.append(os.environ["PREFECT_API_URL"])) as url:
        assert url == "http://127.0.0.1:1/api"
    assert urls == [url]


@pytest.mark.server
def test_an_error_during_the_start_leaves_no_server(prefect_folder: Path):
    def fail() -> None:
        raise RuntimeError("wrong")

    def use_server() -> None:
        with prefect_api(while_starting=fail):
            pass

    with pytest.raises(RuntimeError, match="wrong"):
        use_server()
    assert not (prefect_folder / "server.json").exists()
    assert "PREFECT_API_URL" not in os.environ
