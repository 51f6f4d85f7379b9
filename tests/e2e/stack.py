"""Servers on loopback as a site with several machines has them: Prefect, MLflow and Optuna on Postgres, and workers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowsheet.lifecycle.servers import QUIET, await_url, free_port, start, stop
from tests.conftest import ROOT
from tests.e2e.conftest import ask
from tests.postgres import Cluster, postgres


@dataclass
class Stack:
    """What is running, and how to reach it."""

    folder: Path
    database: Cluster
    env: dict[str, str]
    workers: list[subprocess.Popen[bytes]]

    @property
    def api(self) -> str:
        return self.env["PREFECT_API_URL"]

    def prefect(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def worker(self) -> subprocess.Popen[bytes]:
        arguments = ["prefect", "worker", "start", "--pool", "cpu", "--type", "process", "--limit", "4"]
        with (self.folder / "workers.log").open("ab") as log:
            made = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=self.env, cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.workers.append(made)
        return made

    def runs(self, flow: str) -> list[dict[str, Any]]:
        return list(ask(self.api, "/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}}))

    def run(self, deployment: str, **parameters: Any) -> str:
        """Ask for a run of a deployment; its id."""
        flow, name = deployment.split("/")
        wanted = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [name]}}}
        (found,) = ask(self.api, "/deployments/filter", wanted)
        body = {"parameters": {**found["parameters"], **parameters}, "state": {"type": "SCHEDULED"}}
        return str(ask(self.api, f"/deployments/{found['id']}/create_flow_run", body)["id"])

    def state(self, run: str) -> dict[str, Any]:
        (found,) = ask(self.api, "/flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return dict(found["state"])

    def states(self, flow: str) -> list[str]:
        return [run["state_type"] for run in self.runs(flow)]


def await_(what: Callable[[], Any], seconds: float = 240) -> Any:
    """What the function gives, as soon as that is something."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(1)
    return found


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for a worker and all that it has started, as when a machine loses its power."""
    for pid in [process.pid, *_descendants(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _descendants(parent: int) -> list[int]:
    try:
        children = [
            int(p) for t in Path(f"/proc/{parent}/task").iterdir() for p in (t / "children").read_text().split()
        ]
    except FileNotFoundError:
        return []
    return [pid for child in children for pid in (child, *_descendants(child))]


LENIENT = """
rule: not_worse
margin: 0.5
resamples: 100
calibration_slope: [-1000, 1000]
ece: 1.0
subgroup_floor: 0.0
latency_ms: 60000
"""
"""Gates that a model of some seconds' training passes."""


def _conf(folder: Path) -> Path:
    """The project's choices and one of our own."""
    local = shutil.copytree(ROOT / "conf", folder / "conf") / "local" / "promotion"
    local.mkdir(parents=True, exist_ok=True)
    (local / "lenient.yaml").write_text(LENIENT)
    return folder / "conf"


def _server(module: list[str], health: str, env: dict[str, str], log: Path) -> int:
    process = start(module, log, env)
    await_url(health, process, log)
    return process.pid


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Stack]:
    """All servers and two workers of the pool ``cpu``, with what prefect.yaml declares."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "FLOWSHEET_"))}
    with postgres() as database, contextlib.ExitStack() as servers:
        prefect_port, mlflow_port = free_port(), free_port()
        env = {
            **plain,
            **QUIET,
            "FLOWSHEET_HOME": str(folder / "home"),
            "FLOWSHEET_CONF": str(_conf(folder)),
            "FLOWSHEET_OPTUNA_URL": database.make("optuna"),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": f"http://127.0.0.1:{prefect_port}/api",
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow_port}",
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        database.make("prefect")
        behind = {**env, "PREFECT_SERVER_DATABASE_CONNECTION_URL": database.url("prefect", "asyncpg")}
        serve = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(prefect_port)]
        servers.callback(stop, _server(serve, f"{env['PREFECT_API_URL']}/health", behind, folder / "prefect.log"))
        track = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(mlflow_port), "--workers", "1"]
        track += ["--backend-store-uri", database.make("mlflow"), "--artifacts-destination", str(folder / "artifacts")]
        servers.callback(stop, _server(track, f"{env['MLFLOW_TRACKING_URI']}/health", env, folder / "mlflow.log"))
        stack = Stack(folder, database, env, [])
        for pool in ("cpu", "gpu"):
            stack.prefect("work-pool", "create", pool, "--type", "process")
        stack.prefect("--no-prompt", "deploy", "--all")
        for _ in range(2):
            stack.worker()
        try:
            yield stack
        finally:
            for worker in stack.workers:
                kill_tree(worker)
