"""What monitoring found, as runs of an experiment of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flowsheet.tracking.runs import Tracker
from flowsheet.tracking.store import connect

EXPERIMENT = "monitoring"


def record_monitoring_run(
    key: str,
    title: str,
    *,
    tags: Mapping[str, str],
    metrics: Mapping[str, float | None],
    folder: Path,
    markdown: str,
) -> str:
    """The run with that key, holding all of this; its id. It may be recorded again: there is one run a key."""
    tracker = Tracker.open()
    run_id = _held(key) or tracker.add_event_run(EXPERIMENT, title, {"flowsheet.key": key, **tags})
    tracker.log(run_id, metrics=metrics)
    tracker.set_description(run_id, markdown)
    tracker.log_artifacts(run_id, folder)
    return run_id


def _held(key: str) -> str | None:
    client = connect()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return None
    found = client.search_runs(
        [experiment.experiment_id], f"tags.`flowsheet.key` = '{key}'", max_results=1
    )
    return str(found[0].info.run_id) if found else None
