from __future__ import annotations

import contextlib
import time

from flowsheet.tracking.runs import Tracker
from flowsheet.tracking.store import connect


def get_statuses(config) -> dict[str, str]:
    """{run id: status} of the runs of an experiment."""
    client = connect()
    experiment = client.get_experiment_by_name(config.name).experiment_id
    return {run.info.run_id: run.info.status for run in client.search_runs([experiment])}


def test_open_runs_of_killed_processes_are_closed_and_can_be_resumed(store, config):
    tracker = Tracker.open()
    started = {
        name: tracker.start_experiment_run(config, name, run_lock=name).run_id
        for name in ("killed", "alive", "finished")
    }
    without_lock = tracker.start_experiment_run(config, "without_lock").run_id
    model_run = tracker.start_model_run(started["killed"], "logistic", "training1")
    tracker.finish(started["finished"])
    checked = []

    @contextlib.contextmanager
    def is_stale(run_lock):
        checked.append(run_lock)
        yield run_lock == "killed"

    tracker.close_stale_runs(is_stale, 15)
    assert get_statuses(config) == {
        started["killed"]: "KILLED",
        model_run: "KILLED",
        started["alive"]: "RUNNING",
        started["finished"]: "FINISHED",
        without_lock: "RUNNING",
    }
    assert "finished" not in checked
    for run in (started["alive"], without_lock):
        tracker.finish(run)
    resumed = tracker.start_experiment_run(config, "killed", run_lock="later")
    assert (resumed.run_id, resumed.finished) == (started["killed"], False)
    run = connect().get_run(resumed.run_id)
    assert run.data.tags["flowsheet.run_lock"] == "later"
    assert run.info.status == "RUNNING"
    tracker.finish(resumed.run_id)


def test_open_runs_without_a_lock_are_closed_after_some_minutes(store, config):
    tracker = Tracker.open()
    open_parent = tracker.start_experiment_run(config, "key1", run_lock="alive")
    now = int(time.time() * 1000)

    def create_run(level: str, minutes_ago: float, parent: str = "") -> str:
        tags = {"flowsheet.level": level, **({"mlflow.parentRunId": parent} if parent else {})}
        start_time = now - int(minutes_ago * 60_000)
        run = connect().create_run(open_parent.experiment_id, start_time=start_time, tags=tags)
        return run.info.run_id

    ended_parent = create_run("experiment", 30)
    tracker.finish(ended_parent)
    alive = [create_run(level, 5) for level in ("experiment", "event", "comparison", "evaluation")]
    alive.append(create_run("model", 30, open_parent.run_id))
    dead = [create_run(level, 11) for level in ("experiment", "event", "comparison", "evaluation")]
    dead.append(create_run("model", 30, ended_parent))
    tracker.close_stale_runs(lambda run_lock: contextlib.nullcontext(False), 10)
    statuses = get_statuses(config)
    assert {statuses[run] for run in alive} == {"RUNNING"}
    assert {statuses[run] for run in dead} == {"KILLED"}
    error = connect().get_run(dead[0]).data.tags["flowsheet.error"]
    assert error == "it has no lock, and has not ended within 10 minutes"
