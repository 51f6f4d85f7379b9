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

from tests.conftest import ROOT
from tests.e2e.conftest import ask
from tests.e2e.servers import mlflow_server, plain, prefect_server
from tests.postgres import Cluster, postgres


@dataclass
class Stack:
    """What is running, and how to reach it."""

    folder: Path
    database: Cluster | None
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

    def worker(self, limit: int = 4) -> subprocess.Popen[bytes]:
        arguments = [
            "prefect",
            "worker",
            "start",
            "--pool",
            "cpu",
            "--type",
            "process",
            "--limit",
            str(limit),
        ]
        with (self.folder / "workers.log").open("ab") as log:
            made = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=self.env, cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.workers.append(made)
        return made

    def flowsheet(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command line, on these servers."""
        line = [sys.executable, "-m", "flowsheet", *words]
        return subprocess.run(
            line, env=self.env, capture_output=True, text=True, timeout=900, check=False
        )

    def ended(self, run: str) -> str:
        """The name of the state in which a run ends."""
        await_(lambda: self.state(run)["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
        return str(self.state(run)["name"])

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
            int(p)
            for t in Path(f"/proc/{parent}/task").iterdir()
            for p in (t / "children").read_text().split()
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


@contextlib.contextmanager
def running(folder: Path, *, workers: int = 2, on_postgres: bool = True) -> Iterator[Stack]:
    """All servers and workers of the pool ``cpu``, with what prefect.yaml declares; else each on an SQLite file."""
    with contextlib.ExitStack() as servers:
        database = servers.enter_context(postgres()) if on_postgres else None
        prefect = prefect_server(folder, database.url("prefect", "asyncpg") if database else None)
        mlflow = mlflow_server(folder, database.create_database("mlflow") if database else None)
        env = {
            **plain(),
            "FLOWSHEET_HOME": str(folder / "home"),
            "FLOWSHEET_CONF": str(_conf(folder)),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": prefect.url,
            "MLFLOW_TRACKING_URI": mlflow.url,
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        if database:
            env["FLOWSHEET_OPTUNA_URL"] = database.create_database("optuna")
            database.create_database("prefect")
        servers.enter_context(prefect.running())
        servers.enter_context(mlflow.running())
        stack = Stack(folder, database, env, [])
        for pool in ("cpu", "gpu"):
            stack.prefect("work-pool", "create", pool, "--type", "process")
        stack.prefect("--no-prompt", "deploy", "--all")
        for _ in range(workers):
            stack.worker()
        try:
            yield stack
        finally:
            for worker in stack.workers:
                kill_tree(worker)
