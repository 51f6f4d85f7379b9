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

    tracker.close_stale_runs(is_stale)
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


def test_open_events_and_comparisons_are_closed_after_a_day(store, config):
    tracker = Tracker.open()
    experiment = tracker.start_experiment_run(config, "key1").experiment_id
    now = int(time.time() * 1000)

    def create_run(level: str, hours_ago: int) -> str:
        start_time = now - hours_ago * 3_600_000
        tags = {"flowsheet.level": level}
        return connect().create_run(experiment, start_time=start_time, tags=tags).info.run_id

    recent_event = create_run("event", 1)
    old_event = create_run("event", 25)
    old_comparison = create_run("comparison", 25)
    tracker.close_stale_runs(lambda run_lock: contextlib.nullcontext(False))
    statuses = get_statuses(config)
    assert statuses[recent_event] == "RUNNING"
    assert statuses[old_event] == statuses[old_comparison] == "KILLED"
