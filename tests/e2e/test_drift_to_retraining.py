"""From drift to a retrained model on real servers, although the worker's machine is lost meanwhile.

Afterwards nothing is left running, in Prefect or in MLflow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flowsheet.cohort.schema import TABLES
from tests.e2e.conftest import post
from tests.e2e.stack import Stack, kill_tree, running_stack, wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow]
EXPERIMENT = """
cohort: simulated_small
task: next_day
features: standard
models: [logistic_regression]
tuning: quick
evaluation: quick
compute: local
override:
  cohort: {options: {stays: 200}}
  tuning: {trials: 2}
  evaluation: {resamples: 50}
"""
NAME = "demo-logistic_regression"
DEAD_MINUTES = 0.5


@pytest.fixture
def stack(tmp_path: Path):
    with running_stack(tmp_path, workers=0) as servers:
        servers.environment["FLOWSHEET_DEAD_RUN_MINUTES"] = str(DEAD_MINUTES)
        experiment = tmp_path / "conf" / "local" / "experiment" / "demo.yaml"
        experiment.parent.mkdir()
        experiment.write_text(EXPERIMENT, encoding="utf-8")
        servers.start_worker()
        yield servers


def write_drifted_records(stack: Stack, folder: Path) -> Path:
    """The tables of the experiment's ward with a heart rate that is charted too high."""
    folder.mkdir()
    (extract,) = (stack.folder / "home" / "store" / "extract").glob("[!.]*/extract")
    for table in TABLES:
        rows = pl.read_parquet(extract / f"{table}.parquet")
        if table == "events":
            drifted = pl.when(pl.col("variable") == "hr").then(pl.col("value") + 30.0)
            rows = rows.with_columns(value=drifted.otherwise("value"))
        rows.write_parquet(folder / f"{table}.parquet")
    return folder


def list_unfinished(stack: Stack) -> list[str]:
    """Runs of Prefect and MLflow that have not ended, without those that are scheduled."""
    active = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}}
    flows = [run["name"] for run in post(stack.prefect_api, "/flow_runs/filter", active)]
    tasks = {"task_runs": active["flow_runs"]}
    flows += [run["name"] for run in post(stack.prefect_api, "/task_runs/filter", tasks)]
    api = f"{stack.mlflow_url}/api/2.0/mlflow"
    experiments = post(api, "/experiments/search", {"max_results": 100})["experiments"]
    running = {
        "experiment_ids": [experiment["experiment_id"] for experiment in experiments],
        "filter": "attributes.status = 'RUNNING'",
        "max_results": 100,
    }
    runs = post(api, "/runs/search", running).get("runs", [])
    return [*flows, *(run["info"]["run_name"] for run in runs)]


def read_logs(stack: Stack) -> str:
    return (stack.folder / "workers.log").read_text(encoding="utf-8")


def list_retrainings(stack: Stack) -> list[dict[str, Any]]:
    return [run for run in stack.list_runs("retrain") if run["state_type"] != "SCHEDULED"]


def test_drift_ends_in_a_new_version_although_the_machine_is_lost(stack: Stack, tmp_path: Path):
    first = stack.run_flowsheet("run", "demo")
    assert first.returncode == 0, first.stderr
    promoted = stack.run_flowsheet("promote", NAME, "--config", "lenient", "--reason", "first")
    assert promoted.returncode == 0, promoted.stdout
    records = write_drifted_records(stack, tmp_path / "drifted")
    stack.run_prefect("--no-prompt", "automation", "resume", "retrain after drift")
    cohort = {"cohort": "extract", "overrides": [f"cohort.path={records}"]}
    champion = {"model": f"{NAME}@champion", **cohort}
    monitoring = stack.run_deployment("monitoring/daily", **champion)
    assert stack.wait_for_end(monitoring) == "Completed", read_logs(stack)

    (retraining,) = wait_until(lambda: list_retrainings(stack), 240)
    assert retraining["parameters"]["champions"] == [f"{NAME}/1"]
    wait_until(lambda: "train" in " ".join(list_unfinished(stack)), 240)
    kill_tree(stack.workers[0])
    stack.start_worker()

    def close_dead_runs() -> None:
        closing = stack.run_deployment("dead-runs/regular", minutes=DEAD_MINUTES)
        assert stack.wait_for_end(closing) == "Completed", read_logs(stack)

    def is_tried_again() -> bool:
        close_dead_runs()
        return "attempt 2 of 3 is scheduled" in read_logs(stack)

    wait_until(is_tried_again, 240)
    wait_until(lambda: stack.get_state(retraining["id"])["type"] == "COMPLETED", 900)
    close_dead_runs()
    api = f"{stack.mlflow_url}/api/2.0/mlflow"
    found = post(api, "/registered-models/get-latest-versions", {"name": NAME})
    assert found["model_versions"][0]["version"] == "2", read_logs(stack)
    wait_until(lambda: not list_unfinished(stack), 120)
