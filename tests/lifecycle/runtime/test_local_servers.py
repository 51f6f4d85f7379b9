"""One Prefect server for all who share a state folder, for as long as one of them needs it."""

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


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch, flowsheet_home: Path) -> Path:
    for name in [n for n in os.environ if n.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(flowsheet_home / "prefect"))
    use_quiet_settings()
    return flowsheet_home


@pytest.mark.server
def test_users_share_a_server_and_the_last_one_out_stops_it(no_server: Path):
    state = no_server / "prefect" / "server.json"
    state.parent.mkdir(parents=True)
    write_json(
        state, {"url": f"http://127.0.0.1:{find_free_port()}/api", "pid": 2**22 + 1}
    )  # a dead one is not used
    with prefect_api() as first:
        assert is_responding(f"{first}/health")
        assert os.environ["PREFECT_API_URL"] == first
        del os.environ["PREFECT_API_URL"]  # another process would not have it
        with prefect_api() as second:
            assert second == first
        assert is_responding(f"{first}/health")
        assert read_json(state)["url"] == first
    assert not is_responding(f"{first}/health")
    assert not state.exists()


@pytest.mark.server
def test_a_server_that_was_left_starting_is_ended(no_server: Path):
    folder = no_server / "prefect"
    folder.mkdir(parents=True)
    port = find_free_port()
    arguments = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    left = start_server(arguments, folder / "server.log", {"PREFECT_HOME": str(folder)})
    while not Path(
        f"/proc/{left.pid}/cmdline"
    ).read_bytes():  # a process has no words until its program is loaded
        time.sleep(0.01)
    write_json(folder / "server.json", {"url": f"http://127.0.0.1:{port}/api", "pid": left.pid})
    with prefect_api() as api:
        assert is_responding(f"{api}/health")
        assert str(port) not in api
        assert left.poll() is not None


def test_a_configured_server_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    seen = []
    with prefect_api(meanwhile=lambda: seen.append(os.environ["PREFECT_API_URL"])) as api:
        assert api == "http://127.0.0.1:1/api"
    assert seen == [api]


@pytest.mark.server
def test_an_error_while_waiting_leaves_no_server(no_server: Path):
    def fail() -> None:
        raise RuntimeError("wrong")

    def use() -> None:
        with prefect_api(meanwhile=fail):
            pass

    with pytest.raises(RuntimeError, match="wrong"):
        use()
    assert not (no_server / "prefect" / "server.json").exists()
    assert "PREFECT_API_URL" not in os.environ
