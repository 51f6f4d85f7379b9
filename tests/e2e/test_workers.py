"""Several workers on real servers: schedules, shared studies, lost machines, and deployments."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flowsheet.state.json_files import read_json
from tests.e2e.conftest import SMALL, post, run_flowsheet
from tests.e2e.stack import Stack, kill_tree, running_stack, wait_until
from tests.e2e.test_run import read_leaderboard

pytestmark = [pytest.mark.server, pytest.mark.slow]
TRIALS = 20
EXPERIMENT = [
    "demo",
    "cohort=simulated_small",
    "cohort.options.stays=300",
    "models=[lstm]",
    "models.lstm.params.hidden=8",
    "models.lstm.params.epochs=4",
    f"models.lstm.trials={TRIALS}",
    "tuning.pruner=none",
    "evaluation.resamples=50",
    "compute=cpu_pool",
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as servers:
        yield servers


def test_a_scheduled_deployment_runs_and_completes(stack: Stack):
    by_name = {"deployments": {"name": {"any_": ["nightly"]}}}
    (nightly,) = post(stack.prefect_api, "/deployments/filter", by_name)
    assert [schedule["schedule"]["timezone"] for schedule in nightly["schedules"]] == ["Etc/UTC"]
    every_minute = {
        "schedule": {"cron": "* * * * *", "timezone": "Europe/Berlin"},
        "parameters": {"cohort": "simulated_small"},
    }
    path = f"/deployments/{nightly['id']}/schedules"
    (schedule,) = post(stack.prefect_api, path, [every_minute])
    wait_until(lambda: "COMPLETED" in stack.list_states("ingest"))
    stack.run_prefect("deployment", "schedule", "pause", "ingest/nightly", schedule["id"])
    runs = [run for run in stack.list_runs("ingest") if run["state_type"] == "COMPLETED"]
    assert runs[0]["auto_scheduled"]
    assert runs[0]["parameters"]["cohort"] == "simulated_small"
    assert list((stack.folder / "home" / "store" / "extract").iterdir())


def count_trials(stack: Stack) -> Counter[str]:
    """The number of trials in the Optuna database, by state."""
    import psycopg

    url = stack.environment["FLOWSHEET_OPTUNA_URL"].replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        if connection.execute("select to_regclass('trials')").fetchone() == (None,):
            return Counter()
        rows = connection.execute("select state::text from trials").fetchall()
    return Counter(state for (state,) in rows)


@contextlib.contextmanager
def experiment_with_active_study(
    stack: Stack, *overrides: str
) -> Iterator[subprocess.Popen[bytes]]:
    """An experiment that trains on the pool, after three trials of its study."""
    before = count_trials(stack)["COMPLETE"]
    with (stack.folder / "run.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flowsheet", "run", *EXPERIMENT, *overrides],
            env=stack.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def has_ended_or(condition: bool) -> bool:
        return process.poll() is not None or condition

    try:
        wait_until(lambda: has_ended_or(stack.list_states("train").count("RUNNING") == 2))
        wait_until(lambda: has_ended_or(count_trials(stack)["COMPLETE"] >= before + 3))
        assert process.poll() is None, read_logs(stack)
        yield process
    finally:
        process.kill()
        process.wait()


def read_logs(stack: Stack) -> str:
    return (stack.folder / "run.log").read_text(encoding="utf-8") + (
        stack.folder / "workers.log"
    ).read_text(encoding="utf-8")


def is_idle(stack: Stack) -> bool:
    states = {*stack.list_states("train"), *stack.list_states("experiment")}
    return not {"RUNNING", "PENDING"} & states


def test_two_workers_finish_a_study_although_one_machine_is_lost(stack: Stack):
    with experiment_with_active_study(stack) as process:
        kill_tree(stack.workers[0])
        stack.start_worker()
        assert process.wait(timeout=900) == 0, read_logs(stack)
    trials = count_trials(stack)
    assert trials["COMPLETE"] == TRIALS
    assert trials["FAIL"] <= 1
    assert not trials.keys() - {"COMPLETE", "FAIL"}
    (model,) = (stack.folder / "home" / "store" / "model").iterdir()
    tuning = read_json(model / "tuning.json")
    assert [trial["number"] for trial in tuning["trials"]] == list(range(TRIALS))
    assert (model / "model_package" / "package.json").is_file()
    assert tuning["value"] == max(trial["value"] for trial in tuning["trials"])
    assert count_mlflow_trials(stack) == TRIALS
    wait_until(lambda: is_idle(stack))


def test_a_run_that_lost_its_database_resumes_when_it_is_started_again(stack: Stack):
    before = count_trials(stack)["COMPLETE"]
    overrides = ["seed=2", "models.lstm.trials=8"]
    with experiment_with_active_study(stack, *overrides) as process:
        assert stack.database
        stack.database.stop()  # like a kill
        process.kill()
        stack.database.start()
    result = stack.run_flowsheet("run", *EXPERIMENT, *overrides)
    assert result.returncode == 0, result.stdout + result.stderr + read_logs(stack)
    assert count_trials(stack)["COMPLETE"] == before + 8
    wait_until(lambda: is_idle(stack))


def test_a_database_that_returns_in_time_is_waited_for(stack: Stack):
    overrides = ["seed=3", "models.lstm.trials=8"]
    with experiment_with_active_study(stack, *overrides) as process:
        assert stack.database
        stack.database.stop()
        time.sleep(3)
        stack.database.start()
        assert process.wait(timeout=900) == 0, read_logs(stack)
    wait_until(lambda: is_idle(stack))


def run_promotion(stack: Stack, name: str, **answer: Any) -> str:
    """Promote with a person's answer; returns the name of the final state."""
    run_id = stack.run_deployment("promotion/weekly", name=name, config="lenient")
    active = {"SCHEDULED", "PENDING", "RUNNING"}
    wait_until(lambda: stack.get_state(run_id)["type"] not in active)
    assert stack.get_state(run_id)["type"] == "PAUSED", read_logs(stack)
    resumed = post(stack.prefect_api, f"/flow_runs/{run_id}/resume", {"run_input": answer})
    assert resumed["status"] == "ACCEPT"
    return stack.wait_for_end(run_id)


def get_aliases(stack: Stack, name: str) -> dict[str, str]:
    """{alias: version} of a registered model."""
    url = f"{stack.mlflow_url}/api/2.0/mlflow/registered-models/get?name={name}"
    with urllib.request.urlopen(url, timeout=60) as response:
        aliases = json.load(response)["registered_model"].get("aliases", [])
    return {alias["alias"]: alias["version"] for alias in aliases}


def is_logged(decisions: str, *words: str) -> bool:
    """Whether a line of ``flowsheet ls decisions`` contains all words."""
    return any(all(word in line for word in words) for line in decisions.splitlines())


def test_a_model_is_retrained_approved_scored_and_monitored(stack: Stack):
    name = "demo-logistic_regression"
    champion = {"model": f"{name}@champion", "cohort": "simulated_small"}
    overrides = [o for o in SMALL[1:] if "lstm" not in o] + ["models=[logistic_regression]"]

    def run_to_end(deployment: str, **parameters: Any) -> str:
        return stack.wait_for_end(stack.run_deployment(deployment, **parameters))

    assert run_to_end("retrain/weekly", overrides=overrides) == "Completed", read_logs(stack)
    assert run_to_end("scoring/hourly", **champion) == "Failed"  # there is no champion yet

    no = {"approve": False, "by": "bob", "reason": "not before Monday"}
    assert run_promotion(stack, name, **no) == "Declined", read_logs(stack)
    assert get_aliases(stack, name) == {}

    unanswered = stack.run_deployment(
        "promotion/weekly", name=name, config="lenient", approval_hours=0.001
    )
    assert stack.wait_for_end(unanswered) == "Failed", read_logs(stack)
    assert "never resumed" in stack.get_state(unanswered)["message"]
    assert get_aliases(stack, name) == {}

    yes = {"approve": True, "by": "ada", "reason": "looks right"}
    assert run_promotion(stack, name, **yes) == "Promoted", read_logs(stack)
    assert get_aliases(stack, name) == {"champion": "1"}
    decisions = stack.run_flowsheet("ls", "decisions").stdout
    assert is_logged(decisions, "refused", "bob", "not before Monday")
    assert is_logged(decisions, "promoted", "ada", "looks right")

    assert run_to_end("scoring/hourly", **champion) == "Completed", read_logs(stack)
    (scores,) = (stack.folder / "home" / "store" / "scores").iterdir()
    assert pl.read_parquet(scores / "scores.parquet")["risk"].is_between(0, 1).all()
    assert run_to_end("monitoring/daily", **champion) == "Completed", read_logs(stack)


def count_mlflow_trials(stack: Stack) -> int:
    api = f"{stack.mlflow_url}/api/2.0/mlflow"
    experiments = post(api, "/experiments/search", {"max_results": 100})["experiments"]
    trials = {
        "experiment_ids": [experiment["experiment_id"] for experiment in experiments],
        "filter": "tags.`flowsheet.level` = 'trial'",
        "max_results": 1000,
    }
    return len(post(api, "/runs/search", trials).get("runs", []))


def test_dask_gives_the_same_results(finished: Path, tmp_path: Path):
    pytest.importorskip("prefect_dask", reason="flowsheet[dask] is not installed")
    home = tmp_path / "dask"
    result = run_flowsheet(home, "run", *SMALL, "compute=dask")
    assert result.returncode == 0, result.stderr
    assert read_leaderboard(home).equals(read_leaderboard(finished))
