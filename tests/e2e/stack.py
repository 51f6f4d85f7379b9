"""All servers and workers of a deployment on several machines, on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.e2e.conftest import post
from tests.e2e.servers import mlflow_server, prefect_server, quiet_environment
from tests.postgres import Cluster, postgres

LENIENT_GATES = """
rule: not_worse
margin: 0.5
resamples: 100
calibration_slope: [-1000, 1000]
ece: 1.0
subgroup_floor: 0.0
latency_ms: 60000
"""
"""Gates that a model passes after some seconds of training."""


@dataclass
class Stack:
    """Running servers and workers."""

    folder: Path
    database: Cluster | None
    environment: dict[str, str]
    workers: list[subprocess.Popen[bytes]]

    @property
    def prefect_api(self) -> str:
        return self.environment["PREFECT_API_URL"]

    @property
    def mlflow_url(self) -> str:
        return self.environment["MLFLOW_TRACKING_URI"]

    def run_prefect(self, *arguments: str) -> str:
        """Run Prefect's command line; returns its output."""
        result = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            encoding="utf-8",
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def start_worker(
        self,
        limit: int | None = 4,
        log: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a worker of the pool ``cpu``.

        Args:
            limit: flow runs that it executes at a time; None: what its memory and cores allow.
            log: file for its output; by default that of all workers.
            prefix: a command that executes the worker's, which follows it.
        """
        limits = [] if limit is None else ["--limit", str(limit)]
        with (log or self.folder / "workers.log").open("ab") as output:
            worker = subprocess.Popen(
                [*prefix, sys.executable, "-m", "flowsheet", "worker", "cpu", *limits],
                env=self.environment,
                cwd=ROOT,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.workers.append(worker)
        return worker

    def run_flowsheet(
        self, *arguments: str, timeout: float = 900
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line with these servers."""
        return subprocess.run(
            [sys.executable, "-m", "flowsheet", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            encoding="utf-8",
        )

    def run_deployment(self, deployment: str, **parameters: Any) -> str:
        """Schedule a run of a deployment (``FLOW/NAME``); returns the run's id."""
        flow, name = deployment.split("/")
        by_name = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [name]}}}
        (found,) = post(self.prefect_api, "/deployments/filter", by_name)
        body = {"parameters": {**found["parameters"], **parameters}, "state": {"type": "SCHEDULED"}}
        run = post(self.prefect_api, f"/deployments/{found['id']}/create_flow_run", body)
        return str(run["id"])

    def get_state(self, run_id: str) -> dict[str, Any]:
        by_id = {"flow_runs": {"id": {"any_": [run_id]}}}
        (run,) = post(self.prefect_api, "/flow_runs/filter", by_id)
        return dict(run["state"])

    def wait_for_end(self, run_id: str) -> str:
        """Wait until a run has ended; returns the name of its final state."""
        final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        wait_until(lambda: self.get_state(run_id)["type"] in final)
        return str(self.get_state(run_id)["name"])

    def list_runs(self, flow: str) -> list[dict[str, Any]]:
        by_flow = {"flows": {"name": {"any_": [flow]}}}
        return list(post(self.prefect_api, "/flow_runs/filter", by_flow))

    def list_states(self, flow: str) -> list[str]:
        return [run["state_type"] for run in self.list_runs(flow)]


def wait_until(condition: Callable[[], Any], seconds: float = 240) -> Any:
    """Wait until the function returns something true; returns that."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(1)
    return result


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Send SIGKILL to a worker and all its descendants, as if its machine lost power."""
    for pid in [process.pid, *_list_descendants(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _list_descendants(parent_pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{parent_pid}/task").iterdir())
        children = [
            int(pid)
            for thread in threads
            for pid in (thread / "children").read_text(encoding="utf-8").split()
        ]
    except FileNotFoundError:
        return []
    return [pid for child in children for pid in (child, *_list_descendants(child))]


def _copy_conf(folder: Path) -> Path:
    """The project's choices, with lenient gates in addition."""
    promotion = shutil.copytree(ROOT / "conf", folder / "conf") / "local" / "promotion"
    promotion.mkdir(parents=True, exist_ok=True)
    (promotion / "lenient.yaml").write_text(LENIENT_GATES, encoding="utf-8")
    return folder / "conf"


@contextlib.contextmanager
def running_stack(folder: Path, *, workers: int = 2, on_postgres: bool = True) -> Iterator[Stack]:
    """Start all servers, deploy the flows of prefect.yaml, and start workers of the pool ``cpu``.

    Without ``on_postgres`` each server uses an SQLite file.
    """
    with contextlib.ExitStack() as servers:
        database = servers.enter_context(postgres()) if on_postgres else None
        prefect = prefect_server(folder, database.url("prefect", "asyncpg") if database else None)
        mlflow = mlflow_server(folder, database.create_database("mlflow") if database else None)
        environment = {
            **quiet_environment(),
            "FLOWSHEET_HOME": str(folder / "home"),
            "FLOWSHEET_CONF": str(_copy_conf(folder)),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": prefect.url,
            "MLFLOW_TRACKING_URI": mlflow.url,
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        if database:
            environment["FLOWSHEET_OPTUNA_URL"] = database.create_database("optuna")
            database.create_database("prefect")
        servers.enter_context(prefect.running())
        servers.enter_context(mlflow.running())
        stack = Stack(folder, database, environment, [])
        for pool in ("cpu", "gpu"):
            stack.run_prefect("work-pool", "create", pool, "--type", "process")
        stack.run_prefect("--no-prompt", "deploy", "--all")
        for _ in range(workers):
            stack.start_worker()
        try:
            yield stack
        finally:
            for worker in stack.workers:
                kill_tree(worker)
