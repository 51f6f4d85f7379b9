"""Every server that Flowsheet starts listens on 127.0.0.1 only by default."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from pathlib import Path

import pytest

from flowsheet.lifecycle.runtime.local_servers import find_free_port
from flowsheet.serving.settings import ServeConfig
from flowsheet.tracking.model_registry import register
from flowsheet.tracking.packaging import log_model
from flowsheet.tracking.store import artifact_root, connect
from tests.model_packages import fit_model_package, ward_tables
from tests.security.commands import SMALL_EXPERIMENT, start_flowsheet
from tests.security.foreign_requests import find_answered

LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""Loopback addresses as /proc/net/tcp and tcp6 write them."""

needs_proc = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="there is no /proc")


def process_tree(pid: int) -> set[int]:
    """A process and its descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(
                stat.read_text(encoding="utf-8").rpartition(")")[2].split()[1]
            )
    tree = {pid}
    while children := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= children
    return tree


def listening_sockets(pid: int) -> set[tuple[str, int]]:
    """(address as in /proc/net/tcp, port) of the sockets on which a process tree listens."""
    inodes: set[str] = set()
    for member in process_tree(pid):
        for descriptor in Path(f"/proc/{member}/fd").glob("*"):
            with contextlib.suppress(OSError):
                inodes |= set(re.findall(r"^socket:\[(\d+)\]$", str(descriptor.readlink())))
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="utf-8").splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A" and cells[9] in inodes:  # 0A: LISTEN
                address, _, port = cells[1].rpartition(":")
                found.add((address, int(port, 16)))
    return found


@pytest.fixture
def _no_remote_servers(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "MLFLOW_")):
            monkeypatch.delenv(name)


@pytest.fixture
def champion(tmp_path) -> str:
    """The name of a registered model with a champion."""
    package = fit_model_package(tmp_path / "fit", "logistic_regression", ward_tables())
    client = connect()
    run = client.create_run(client.create_experiment("security", artifact_root())).info.run_id
    version = register("ward-model", run, log_model(run, package.folder), package.training_key)
    client.set_registered_model_alias("ward-model", "champion", str(version))
    return "ward-model"


@pytest.mark.server
@pytest.mark.usefixtures("_no_remote_servers")
@needs_proc
def test_the_pages_listen_on_loopback_only_and_answer_no_foreign_page():
    ports = [find_free_port() for _ in range(2)]
    arguments = ["ui", "--mlflow-port", str(ports[0]), "--prefect-port", str(ports[1])]
    with start_flowsheet(*arguments, until="Ctrl-C") as pid:
        sockets = listening_sockets(pid)
        pages = ("/", "/health", "/version", "/static-files/index.html", "/get-artifact")
        experiments = "/ajax-api/2.0/mlflow/experiments/search"
        foreign = [find_answered(ports[0], *pages, experiments)]
        foreign.append(find_answered(ports[1], "/", "/api/flow_runs/filter"))
    assert foreign == [[], []]
    assert set(ports) <= {port for _, port in sockets}
    assert {address for address, _ in sockets} <= LOOPBACK


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.usefixtures("_no_remote_servers")
@needs_proc
def test_a_run_and_its_server_listen_on_loopback_only():
    with start_flowsheet("run", *SMALL_EXPERIMENT, until="trial 1 of") as pid:
        sockets = listening_sockets(pid)
    assert sockets
    assert {address for address, _ in sockets} <= LOOPBACK


@pytest.mark.server
@needs_proc
def test_serving_listens_on_loopback_only(champion):
    assert ServeConfig(name="m").host == "127.0.0.1"
    port = find_free_port()
    with start_flowsheet("serve", champion, "--port", str(port), until='"serving"') as pid:
        deadline = time.monotonic() + 120
        while not (sockets := listening_sockets(pid)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert sockets == {("0100007F", port)}


@needs_proc
def test_a_socket_on_every_address_is_found():
    with socket.socket() as everywhere:
        everywhere.bind(("0.0.0.0", 0))
        everywhere.listen()
        port = everywhere.getsockname()[1]
        assert ("00000000", port) in listening_sockets(os.getpid())
