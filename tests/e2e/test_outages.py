"""Servers that are killed during a training: waited for, or reported and resumed from later."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import SMALL, flowsheet_command, post
from tests.e2e.servers import Server, mlflow_server, prefect_server
from tests.e2e.stack import wait_until

pytestmark = [pytest.mark.server]
TRIALS = 6
EXPERIMENT = [*SMALL, f"models.lstm.trials={TRIALS}", "tuning.pruner=none"]
FEW_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "PREFECT_CLIENT_MAX_RETRIES": "2"}


@dataclass
class Site:
    """An MLflow and a Prefect server, each on an SQLite file."""

    folder: Path
    servers: dict[str, Server]
    log: Path = field(default_factory=Path)
    """Output of the latest experiment."""

    @contextlib.contextmanager
    def experiment(
        self, seed: int, *overrides: str, **environment: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A running experiment."""
        arguments = ["run", *EXPERIMENT, f"seed={seed}", *overrides]
        command, inherited = flowsheet_command(self.folder / "home", *arguments)
        urls = {
            "MLFLOW_TRACKING_URI": self.servers["mlflow"].url,
            "PREFECT_API_URL": self.servers["prefect"].url,
        }
        self.log = self.folder / f"{seed}.log"
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, env={**inherited, **urls, **environment}, stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def wait_for_second_trial(self, process: subprocess.Popen[bytes]) -> None:
        second_trial = "[lstm] trial 2 of"
        wait_until(lambda: process.poll() is not None or second_trial in self.output(), 300)
        assert process.poll() is None, self.output()

    def list_mlflow_runs(self, seed: int) -> list[dict[str, Any]]:
        """The MLflow runs of an experiment, parents before children."""
        api = f"{self.servers['mlflow'].url}/api/2.0/mlflow"
        experiments = post(api, "/experiments/search", {"max_results": 100})["experiments"]
        ids = [experiment["experiment_id"] for experiment in experiments]
        found = post(api, "/runs/search", {"experiment_ids": ids, "max_results": 1000})
        runs = {run["info"]["run_id"]: run for run in found.get("runs", [])}

        def ancestors(run: dict[str, Any]) -> list[dict[str, Any]]:
            """The run and the runs above it, the experiment's run first."""
            parent = get_tags(run).get("mlflow.parentRunId")
            return [*ancestors(runs[parent]), run] if parent else [run]

        chains = sorted((ancestors(run) for run in runs.values()), key=len)
        return [chain[-1] for chain in chains if get_params(chain[0]).get("seed") == str(seed)]

    def is_idle(self) -> bool:
        """Whether no flow run and no task run is unfinished."""
        api = self.servers["prefect"].url
        runs = [*post(api, "/flow_runs/filter", {}), *post(api, "/task_runs/filter", {})]
        return not {"RUNNING", "PENDING", "SCHEDULED"} & {run["state_type"] for run in runs}


def get_tags(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}


def get_params(run: dict[str, Any]) -> dict[str, str]:
    return {param["key"]: param["value"] for param in run["data"].get("params", [])}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with mlflow_server(folder).running() as mlflow, prefect_server(folder).running() as prefect:
        yield Site(folder, {"mlflow": mlflow, "prefect": prefect})


def assert_recorded_once(site: Site, seed: int) -> None:
    runs = site.list_mlflow_runs(seed)
    assert Counter(run["info"]["status"] for run in runs) == {"FINISHED": 3 + TRIALS + 2}
    levels = Counter(get_tags(run)["flowsheet.level"] for run in runs)
    assert levels == {"experiment": 1, "model": 2, "trial": TRIALS + 2}


@pytest.mark.slow
@pytest.mark.parametrize(("killed", "seed"), [("mlflow", 1), ("prefect", 2)])
def test_a_server_that_returns_in_time_is_waited_for(site: Site, killed: str, seed: int):
    with site.experiment(seed) as process:
        site.wait_for_second_trial(process)
        site.servers[killed].kill()
        time.sleep(3)
        site.servers[killed].start()
        assert process.wait(timeout=600) == 0, site.output()
    assert_recorded_once(site, seed)
    wait_until(site.is_idle, 60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("killed", "seed", "name"),
    [("mlflow", 3, "MLflow"), ("prefect", 4, "Prefect")],
)
def test_a_server_that_stays_down_is_reported_and_the_next_start_resumes(
    site: Site, killed: str, seed: int, name: str
):
    with site.experiment(seed, **FEW_RETRIES) as process:
        site.wait_for_second_trial(process)
        site.servers[killed].kill()
        try:
            assert process.wait(timeout=600) == 1, site.output()
            output = site.output()
            assert f"the {name} server does not answer" in output
            assert site.servers[killed].url in output
            assert "Traceback" not in output
        finally:
            site.servers[killed].start()
    length = len(site.output())
    with site.experiment(seed) as process:
        assert process.wait(timeout=600) == 0, site.output()
    output = site.output()[length:]
    is_resumed = "[lstm] resuming after" in output
    is_reused = "lstm" in output.partition("reused: ")[2]
    assert is_resumed or is_reused
    assert "[windows] reused" in output
    assert_recorded_once(site, seed)
    wait_until(site.is_idle, 60)


@pytest.mark.slow
def test_the_next_experiment_closes_the_runs_of_a_killed_one(site: Site):
    with site.experiment(5) as process:
        site.wait_for_second_trial(process)
        process.kill()
    assert "RUNNING" in {run["info"]["status"] for run in site.list_mlflow_runs(5)}
    assert not site.is_idle()
    with site.experiment(6, "models.lstm.trials=1") as process:
        assert process.wait(timeout=600) == 0, site.output()
    runs = site.list_mlflow_runs(5)
    assert {run["info"]["status"] for run in runs} == {"FINISHED", "KILLED"}
    assert runs[0]["info"]["status"] == "KILLED"
    assert get_tags(runs[0])["flowsheet.error"] == "its process was killed"
    wait_until(site.is_idle, 60)
