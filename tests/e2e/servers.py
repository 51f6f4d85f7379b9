"""Servers on loopback that can be killed and restarted on the same port."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flowsheet.lifecycle.runtime.local_servers import (
    QUIET_SETTINGS,
    find_free_port,
    start_server,
    stop_server,
    wait_for_server,
)
from tests.e2e.conftest import inherited_environment


@dataclass
class Server:
    """A server's command, URLs and process."""

    command: list[str]
    url: str
    health_url: str
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = start_server(self.command, self.log, self.environment)
        wait_for_server(self.health_url, self.process, self.log)

    def kill(self) -> None:
        """Send SIGKILL to the server and its child processes."""
        assert self.process
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @contextlib.contextmanager
    def running(self) -> Iterator[Server]:
        self.start()
        try:
            yield self
        finally:
            if self.process:
                stop_server(self.process.pid)


def quiet_environment() -> dict[str, str]:
    return {**inherited_environment(), **QUIET_SETTINGS}


def prefect_server(folder: Path, database: str | None = None) -> Server:
    """Prefect on a database, or on a new SQLite file."""
    port = find_free_port()
    environment = {**quiet_environment(), "PREFECT_HOME": str(folder / "prefect")}
    if database:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
    url = f"http://127.0.0.1:{port}/api"
    command = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    return Server(command, url, f"{url}/health", environment, folder / "prefect.log")


def mlflow_server(folder: Path, database: str | None = None) -> Server:
    """MLflow on a database, or on a new SQLite file."""
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += ["--backend-store-uri", database or f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    return Server(command, url, f"{url}/health", quiet_environment(), folder / "mlflow.log")
