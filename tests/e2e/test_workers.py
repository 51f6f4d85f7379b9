"""Several workers on real servers: schedules, one study tuned together, and machines that lose their power."""

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
from tests.e2e.conftest import SMALL, ask, flowsheet
from tests.e2e.stack import Stack, await_, kill_tree, running

pytestmark = [pytest.mark.server, pytest.mark.slow]
TRIALS = 20
TUNED = [
    "demo",
    "cohort=simulated_small",
    "cohort.options.stays=300",
    "models=[lstm]",
    "models.lstm.params.hidden=8",
    "models.lstm.params.epochs=4",
    f"models.lstm.trials={TRIALS}",
    "tuning.prune=false",
    "evaluation.resamples=50",
    "compute=cpu_pool",
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("stack")) as found:
        yield found


def test_a_scheduled_deployment_fires_and_completes(stack: Stack):
    (nightly,) = ask(
        stack.api, "/deployments/filter", {"deployments": {"name": {"any_": ["nightly"]}}}
    )
    assert [schedule["schedule"]["timezone"] for schedule in nightly["schedules"]] == ["Etc/UTC"]
    every_minute = {
        "schedule": {"cron": "* * * * *", "timezone": "Europe/Berlin"},
        "parameters": {"cohort": "simulated_small"},
    }
    (made,) = ask(stack.api, f"/deployments/{nightly['id']}/schedules", [every_minute])
    await_(lambda: "COMPLETED" in stack.states("ingest"))
    stack.prefect("deployment", "schedule", "pause", "ingest/nightly", made["id"])
    done = next(run for run in stack.runs("ingest") if run["state_type"] == "COMPLETED")
    assert done["auto_scheduled"]
    assert done["parameters"]["cohort"] == "simulated_small"
    assert list((stack.folder / "home" / "store" / "extract").iterdir())


def trials(stack: Stack) -> list[str]:
    """The states of all trials in the Optuna database."""
    import psycopg

    with psycopg.connect(stack.env["FLOWSHEET_OPTUNA_URL"].replace("+psycopg", "")) as connection:
        if connection.execute("select to_regclass('trials')").fetchone() == (None,):
            return []
        return [
            state for (state,) in connection.execute("select state::text from trials").fetchall()
        ]


@contextlib.contextmanager
def experiment(stack: Stack, *overrides: str) -> Iterator[subprocess.Popen[bytes]]:
    """An experiment that trains on the pool, in the middle of its study."""
    already = Counter(trials(stack))["COMPLETE"]
    with (stack.folder / "run.log").open("w") as log:
        run = subprocess.Popen(
            [sys.executable, "-m", "flowsheet", "run", *TUNED, *overrides],
            env=stack.env, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        await_(lambda: run.poll() is not None or stack.states("train").count("RUNNING") == 2)
        await_(lambda: run.poll() is not None or Counter(trials(stack))["COMPLETE"] >= already + 3)
        assert run.poll() is None, said(stack)
        yield run
    finally:
        run.kill()
        run.wait()


def said(stack: Stack) -> str:
    return (stack.folder / "run.log").read_text() + (stack.folder / "workers.log").read_text()


def nothing_runs(stack: Stack) -> bool:
    return not {"RUNNING", "PENDING"} & {*stack.states("train"), *stack.states("experiment")}


def test_two_workers_finish_a_study_though_one_machine_is_lost(stack: Stack):
    with experiment(stack) as run:
        kill_tree(stack.workers[0])
        stack.worker()
        assert run.wait(timeout=900) == 0, said(stack)
    counted = Counter(trials(stack))
    assert counted["COMPLETE"] == TRIALS
    assert counted["FAIL"] <= 1
    assert not counted.keys() - {"COMPLETE", "FAIL"}
    (model,) = (stack.folder / "home" / "store" / "model").iterdir()
    tuning = read_json(model / "tuning.json")
    assert [trial["number"] for trial in tuning["trials"]] == list(range(TRIALS))
    assert (model / "model_package" / "package.json").is_file()
    assert tuning["value"] == max(trial["value"] for trial in tuning["trials"])
    assert tracked_trials(stack) == TRIALS
    await_(lambda: nothing_runs(stack))


def test_a_run_that_lost_its_database_goes_on_when_it_is_started_again(stack: Stack):
    before, few = Counter(trials(stack))["COMPLETE"], ["seed=2", "models.lstm.trials=8"]
    with experiment(stack, *few) as run:
        assert stack.database
        stack.database.stop()  # as a kill does
        run.kill()
        stack.database.start()
    again = stack.flowsheet("run", *TUNED, *few)
    assert again.returncode == 0, again.stdout + again.stderr + said(stack)
    assert Counter(trials(stack))["COMPLETE"] == before + 8
    await_(lambda: nothing_runs(stack))


def test_a_database_that_comes_back_in_time_is_waited_for(stack: Stack):
    with experiment(stack, "seed=3", "models.lstm.trials=8") as run:
        assert stack.database
        stack.database.stop()
        time.sleep(3)
        stack.database.start()
        assert run.wait(timeout=900) == 0, said(stack)
    await_(lambda: nothing_runs(stack))


def answered(stack: Stack, name: str, **answer: Any) -> str:
    """The name of the state in which a promotion ends that a person answers so."""
    asked = stack.run("promotion/weekly", name=name, config="lenient")
    await_(lambda: stack.state(asked)["type"] not in {"SCHEDULED", "PENDING", "RUNNING"})
    assert stack.state(asked)["type"] == "PAUSED", said(stack)
    assert ask(stack.api, f"/flow_runs/{asked}/resume", {"run_input": answer})["status"] == "ACCEPT"
    return stack.ended(asked)


def aliases(stack: Stack, name: str) -> dict[str, str]:
    """Of a registered model: alias to version."""
    url = f"{stack.env['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/registered-models/get?name={name}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        found = json.load(answer)["registered_model"].get("aliases", [])
    return {each["alias"]: each["version"] for each in found}


def test_retrained_approved_by_a_person_scored_and_watched(stack: Stack):
    small = [o for o in SMALL[1:] if "lstm." not in o and "models=" not in o] + [
        "models=[logistic_regression]"
    ]
    records = {"cohort": "simulated_small"}
    assert stack.ended(stack.run("retrain/weekly", overrides=small)) == "Completed", said(stack)
    name, model = "demo-logistic_regression", "demo-logistic_regression@champion"
    assert (
        stack.ended(stack.run("scoring/hourly", model=model, **records)) == "Failed"
    )  # nobody is champion
    assert (
        answered(stack, name, approve=False, by="bob", reason="not before Monday") == "Declined"
    ), said(stack)
    assert aliases(stack, name) == {}
    nobody = stack.run("promotion/weekly", name=name, config="lenient", approval_hours=0.001)
    assert stack.ended(nobody) == "Failed", said(stack)
    assert "never resumed" in stack.state(nobody)["message"]
    assert aliases(stack, name) == {}
    assert answered(stack, name, approve=True, by="ada", reason="looks right") == "Promoted", said(
        stack
    )
    assert aliases(stack, name) == {"champion": "1"}
    decided = stack.flowsheet("ls", "decisions").stdout
    assert [
        line
        for line in decided.splitlines()
        if "not before Monday" in line and "refused" in line and "bob" in line
    ]
    assert [
        line
        for line in decided.splitlines()
        if "looks right" in line and "promoted" in line and "ada" in line
    ]
    assert stack.ended(stack.run("scoring/hourly", model=model, **records)) == "Completed", said(
        stack
    )
    (scores,) = (stack.folder / "home" / "store" / "scores").iterdir()
    assert pl.read_parquet(scores / "scores.parquet")["risk"].is_between(0, 1).all()
    assert stack.ended(stack.run("monitoring/daily", model=model, **records)) == "Completed", said(
        stack
    )


def tracked_trials(stack: Stack) -> int:
    """The trial runs in MLflow."""
    found = ask(
        stack.env["MLFLOW_TRACKING_URI"], "/api/2.0/mlflow/experiments/search", {"max_results": 100}
    )
    wanted = {
        "experiment_ids": [each["experiment_id"] for each in found["experiments"]],
        "filter": "tags.`flowsheet.level` = 'trial'",
        "max_results": 1000,
    }
    return len(
        ask(stack.env["MLFLOW_TRACKING_URI"], "/api/2.0/mlflow/runs/search", wanted).get("runs", [])
    )


def test_dask_gives_the_same_numbers(finished: Path, tmp_path: Path):
    pytest.importorskip("prefect_dask", reason="flowsheet[dask] is not installed")
    done = flowsheet(tmp_path / "dask", "run", *SMALL, "compute=dask")
    assert done.returncode == 0, done.stderr
    boards = [
        pl.read_parquet(next((home / "store" / "evidence").iterdir()) / "leaderboard.parquet")
        for home in (finished, tmp_path / "dask")
    ]
    assert boards[0].equals(boards[1])
