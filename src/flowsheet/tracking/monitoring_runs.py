"""Results of monitoring as runs of the MLflow experiment ``monitoring``."""

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
    """Record a comparison as a run, and return its id; there is one run for each key.

    Args:
        key: digest of everything that the comparison depends on.
        title: name of the run.
        tags: model, version and flagged properties.
        metrics: {name: value}; None: not estimable.
        folder: its files become artifacts.
        markdown: description on the run's page.
    """
    tracker = Tracker.open()
    run_id = _find_run(key)
    if run_id is None:
        run_id = tracker.add_event_run(EXPERIMENT, title, {"flowsheet.key": key, **tags})
    tracker.log(run_id, metrics=metrics)
    tracker.set_description(run_id, markdown)
    tracker.log_artifacts(run_id, folder)
    return run_id


def _find_run(key: str) -> str | None:
    client = connect()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return None
    query = f"tags.`flowsheet.key` = '{key}'"
    runs = client.search_runs([experiment.experiment_id], query, max_results=1)
    return str(runs[0].info.run_id) if runs else None
