from __future__ import annotations

from flowsheet.tracking.run_list import list_runs
from flowsheet.tracking.runs import Tracker


def test_runs_are_listed_newest_first(store, config):
    tracker = Tracker.open()
    tracker.start_experiment_run(config, "older")
    newest = tracker.start_experiment_run(config, "newest").run_id
    tracker.log(newest, tags={"flowsheet.best": "logistic 0.750"})
    tracker.finish(newest)
    header, rows = list_runs()
    row = dict(zip(header, rows[0], strict=True))
    assert (row["run"], row["experiment"]) == (newest, config.name)
    assert (row["status"], row["best"]) == ("finished", "logistic 0.750")


def test_listing_creates_no_store(flowsheet_home):
    assert list_runs()[1] == []
    assert not (flowsheet_home / "mlflow" / "mlflow.db").exists()
