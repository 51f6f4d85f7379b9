"""docs/deploy.md without Docker: its commands as they stand there, and servers that are killed."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import prefect.settings
import pytest

from flowsheet.lifecycle.runtime.local_servers import find_free_port, is_responding
from tests.conftest import ROOT
from tests.e2e.servers import quiet_environment
from tests.e2e.stack import wait_until
from tests.postgres import Cluster, postgres

PAGE = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
SECTION = PAGE[PAGE.index("### Without Docker") : PAGE.index("### How much a worker takes")]
BLOCKS = re.findall(r"```console\n(.*?)```", SECTION, re.DOTALL)
SOURCES = "".join(
    file.read_text(encoding="utf-8")
    for folder in ("src", "flows")
    for file in (ROOT / folder).rglob("*.py")
) + (ROOT / "docker/postgres/databases.sh").read_text(encoding="utf-8")


def test_every_exported_variable_is_one_that_is_read():
    exported = set(re.findall(r"\b([A-Z][A-Z_]+)=", SECTION))
    assert {"PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "FLOWSHEET_HOME"} <= exported
    for name in exported:
        assert name in SOURCES or hasattr(prefect.settings, name), name
    assert not exported & {"PREFECT_AUTH", "FLOWSHEET_SHARED", "FLOWSHEET_RECORDS"}


@dataclass
class Page:
    """The page's commands with this machine's passwords, ports and folders."""

    folder: Path
    database: Cluster
    ports: dict[str, int] = field(
        default_factory=lambda: {"4200": find_free_port(), "5000": find_free_port()}
    )
    login: str = field(default_factory=lambda: f"flowsheet:{secrets.token_hex(8)}")
    password: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def server_commands(self) -> list[str]:
        return self._adapt(BLOCKS[0])

    @property
    def worker_commands(self) -> list[str]:
        return self._adapt(BLOCKS[1])

    def _adapt(self, block: str) -> list[str]:
        """The commands of a block; the installation and Postgres' superuser are this test's."""
        lines = [line.partition("  #")[0].strip() for line in block.splitlines()]
        commands = []
        for line in lines:
            if line.startswith("python -m venv"):
                continue
            text = line.replace("flowsheet:...", self.login).replace("PASSWORD=...", self._set)
            text = text.replace("FLOWSHEET_OPTUNA_URL=postgresql+psycopg://...", self._optuna_url)
            text = re.sub(r"://(prefect|mlflow):\.\.\.@127\.0\.0\.1:5432", self._insert_login, text)
            for port, own in self.ports.items():
                text = re.sub(rf"(port |127\.0\.0\.1:){port}", rf"\g<1>{own}", text)
            text = text.replace("/srv/mlflow", str(self.folder / "mlflow"))
            text = text.replace("/mnt/flowsheet", str(self.folder / "home"))
            commands.append(text.replace("sudo -u postgres ", self._as_superuser))
        return commands

    @property
    def _set(self) -> str:
        return f"PASSWORD={self.password}"

    @property
    def _as_superuser(self) -> str:
        return f"env PGHOST={self.database.folder} PGPORT={self.database.port} "

    @property
    def _optuna_url(self) -> str:
        address = f"optuna:{self.password}@127.0.0.1:{self.database.port}/optuna"
        return f"FLOWSHEET_OPTUNA_URL=postgresql+psycopg://{address}"

    def _insert_login(self, match: re.Match[str]) -> str:
        return f"://{match[1]}:{self.password}@127.0.0.1:{self.database.port}"

    @property
    def health_urls(self) -> list[str]:
        prefect_port, mlflow_port = self.ports.values()
        return [
            f"http://127.0.0.1:{prefect_port}/api/health",
            f"http://127.0.0.1:{mlflow_port}/health",
        ]

    def run(self, *commands: str) -> subprocess.CompletedProcess[str]:
        """Run commands in one shell that stops at the first one that fails."""
        return subprocess.run(
            ["bash", "-ec", "\n".join(commands)],
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
            encoding="utf-8",
        )

    @contextlib.contextmanager
    def running(self, *commands: str) -> Iterator[subprocess.Popen[bytes]]:
        """Commands that stay in the foreground or background of one shell; killed afterwards."""
        with (self.folder / "log").open("ab") as log:
            shell = subprocess.Popen(
                ["bash", "-c", "\n".join([*commands, "wait"])],
                cwd=ROOT,
                env=self._environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield shell
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()

    def _environment(self) -> dict[str, str]:
        own = {"HOME": str(self.folder), "PREFECT_WORKER_QUERY_SECONDS": "2"}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**quiet_environment(), **own, "PATH": path}


@pytest.fixture
def page(tmp_path) -> Iterator[Page]:
    with postgres("--auth-local=trust", "--auth-host=scram-sha-256") as database:
        yield Page(tmp_path, database)


@pytest.mark.slow
@pytest.mark.server
def test_the_pages_commands_make_servers_that_come_back_and_a_worker_that_works(page):
    databases, *servers = page.server_commands
    made = page.run(databases)
    assert made.returncode == 0, made.stderr
    exports = [line for line in page.worker_commands if line.startswith("export")]
    *commands, worker = [line for line in page.worker_commands if not line.startswith("export")]
    with page.running(*servers) as shell:
        wait_for(page)
        prepared = page.run(*exports, *commands)
        assert prepared.returncode == 0, prepared.stderr + prepared.stdout
        os.killpg(shell.pid, signal.SIGKILL)
    assert not any(map(is_responding, page.health_urls))
    # the same commands start them again, after a kill too
    with page.running(*servers), page.running(*exports, worker):
        wait_for(page)
        run = "prefect deployment run ingest/nightly --watch -p cohort=simulated_small"
        finished = page.run(*exports, run)
        assert finished.returncode == 0, finished.stderr + (page.folder / "log").read_text(
            encoding="utf-8"
        )
    assert list((page.folder / "home" / "store" / "extract").iterdir())


def wait_for(page: Page) -> None:
    wait_until(lambda: all(map(is_responding, page.health_urls)), 240)
    time.sleep(1)
