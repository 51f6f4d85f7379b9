"""A server that is killed in the middle of a training: waited for, or told in words and gone on from later."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import SMALL, ask, command
from tests.e2e.servers import Server, mlflow_server, prefect_server
from tests.e2e.stack import await_

pytestmark = [pytest.mark.server]
TRIALS = 6
TUNED = [*SMALL, f"models.lstm.trials={TRIALS}", "tuning.prune=false"]
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "PREFECT_CLIENT_MAX_RETRIES": "2"}


@dataclass
class Site:
    """An MLflow and a Prefect server, each on an SQLite file."""

    folder: Path
    servers: dict[str, Server]

    @contextlib.contextmanager
    def experiment(
        self, seed: int, *overrides: str, **env: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """An experiment; what it says goes to a log of its own."""
        line, plain = command(self.folder / "home", "run", *TUNED, f"seed={seed}", *overrides)
        urls = {
            "MLFLOW_TRACKING_URI": self.servers["mlflow"].url,
            "PREFECT_API_URL": self.servers["prefect"].url,
        }
        self.log = self.folder / f"{seed}.log"
        with self.log.open("ab") as log:
            run = subprocess.Popen(line, env={**plain, **urls, **env}, stdout=log, stderr=log)
        try:
            yield run
        finally:
            run.kill()
            run.wait()

    def said(self) -> str:
        return self.log.read_text()

    def in_the_middle_of_a_study(self, run: subprocess.Popen[bytes]) -> None:
        await_(lambda: run.poll() is not None or "[lstm] trial 2 of" in self.said(), 300)
        assert run.poll() is None, self.said()

    def tracked(self, seed: int) -> list[dict[str, Any]]:
        """The MLflow runs of an experiment, its own first."""
        url = self.servers["mlflow"].url
        found = ask(url, "/api/2.0/mlflow/experiments/search", {"max_results": 100})["experiments"]
        body = {"experiment_ids": [each["experiment_id"] for each in found], "max_results": 1000}
        runs = {
            run["info"]["run_id"]: run
            for run in ask(url, "/api/2.0/mlflow/runs/search", body).get("runs", [])
        }

        def parents(run: dict[str, Any]) -> list[dict[str, Any]]:
            above = tags(run).get("mlflow.parentRunId")
            return [*parents(runs[above]), run] if above else [run]

        chains = sorted((parents(run) for run in runs.values()), key=len)
        return [chain[-1] for chain in chains if params(chain[0]).get("seed") == str(seed)]

    def flow_runs(self) -> list[str]:
        return [
            run["state_type"] for run in ask(self.servers["prefect"].url, "/flow_runs/filter", {})
        ]

    def task_runs(self) -> list[str]:
        return [
            run["state_type"] for run in ask(self.servers["prefect"].url, "/task_runs/filter", {})
        ]


def tags(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}


def params(run: dict[str, Any]) -> dict[str, str]:
    return {param["key"]: param["value"] for param in run["data"].get("params", [])}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with mlflow_server(folder).running() as mlflow, prefect_server(folder).running() as prefect:
        yield Site(folder, {"mlflow": mlflow, "prefect": prefect})


def everything_is_recorded_once(site: Site, seed: int) -> None:
    runs = site.tracked(seed)
    assert Counter(run["info"]["status"] for run in runs) == {"FINISHED": 3 + TRIALS + 2}
    levels = Counter(tags(run)["flowsheet.level"] for run in runs)
    assert levels == {"experiment": 1, "model": 2, "trial": TRIALS + 2}


def nothing_runs(site: Site) -> bool:
    return not {"RUNNING", "PENDING", "SCHEDULED"} & {*site.flow_runs(), *site.task_runs()}


@pytest.mark.slow
@pytest.mark.parametrize(("killed", "seed"), [("mlflow", 1), ("prefect", 2)])
def test_a_server_that_comes_back_in_time_is_waited_for(site: Site, killed: str, seed: int):
    with site.experiment(seed) as run:
        site.in_the_middle_of_a_study(run)
        site.servers[killed].kill()
        time.sleep(3)
        site.servers[killed].start()
        assert run.wait(timeout=600) == 0, site.said()
    everything_is_recorded_once(site, seed)
    await_(lambda: nothing_runs(site), 60)


@pytest.mark.parametrize(
    ("killed", "seed", "name"),
    [("mlflow", 3, "MLflow"), pytest.param("prefect", 4, "Prefect", marks=pytest.mark.slow)],
)
def test_a_server_that_stays_away_is_told_and_the_next_start_goes_on(
    site: Site, killed: str, seed: int, name: str
):
    with site.experiment(seed, **IMPATIENT) as run:
        site.in_the_middle_of_a_study(run)
        site.servers[killed].kill()
        try:
            assert run.wait(timeout=600) == 1, site.said()
            said = site.said()
            assert f"the {name} server does not answer" in said
            assert site.servers[killed].url in said
            assert "Traceback" not in said
        finally:
            site.servers[killed].start()
    already = len(site.said())
    with site.experiment(seed) as run:
        assert run.wait(timeout=600) == 0, site.said()
    again = site.said()[already:]
    assert "[lstm] resuming after" in again or "lstm" in again.partition("reused: ")[2]
    assert "[windows] reused" in again
    everything_is_recorded_once(site, seed)
    await_(lambda: nothing_runs(site), 60)


@pytest.mark.slow
def test_what_a_kill_has_left_open_is_closed_by_the_next_experiment(site: Site):
    with site.experiment(5) as run:
        site.in_the_middle_of_a_study(run)
        run.kill()
    assert "RUNNING" in {each["info"]["status"] for each in site.tracked(5)}
    assert not nothing_runs(site)
    with site.experiment(6, "models.lstm.trials=1") as run:
        assert run.wait(timeout=600) == 0, site.said()
    left = site.tracked(5)
    assert {each["info"]["status"] for each in left} == {"FINISHED", "KILLED"}
    assert left[0]["info"]["status"] == "KILLED"
    assert tags(left[0])["flowsheet.error"] == "its process was killed"
    await_(lambda: nothing_runs(site), 60)
