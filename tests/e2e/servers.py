"""Servers on loopback that can be killed, and started again where they were."""

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


@dataclass
class Server:
    """A server's command, where it answers, and its process."""

    words: list[str]
    url: str
    health: str
    env: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = start_server(self.words, self.log, self.env)
        wait_for_server(self.health, self.process, self.log)

    def kill(self) -> None:
        """SIGKILL, for it and its workers."""
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


def plain() -> dict[str, str]:
    """The environment without what names servers and folders."""
    bare = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PREFECT_", "MLFLOW_", "FLOWSHEET_"))
    }
    return {**bare, **QUIET_SETTINGS}


def prefect_server(folder: Path, database: str | None = None) -> Server:
    """Prefect on a database, or on an SQLite file of its own."""
    port = find_free_port()
    env = {**plain(), "PREFECT_HOME": str(folder / "prefect")}
    if database:
        env["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
    url = f"http://127.0.0.1:{port}/api"
    words = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    return Server(words, url, f"{url}/health", env, folder / "prefect.log")


def mlflow_server(folder: Path, database: str | None = None) -> Server:
    """MLflow on a database, or on an SQLite file of its own."""
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    words = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", database or f"sqlite:///{folder / 'mlflow.db'}"]
    words += ["--artifacts-destination", str(folder / "artifacts")]
    return Server(words, url, f"{url}/health", plain(), folder / "mlflow.log")
