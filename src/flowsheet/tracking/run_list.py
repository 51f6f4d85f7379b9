"""The latest experiment runs as a table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flowsheet.timestamps import format_local_minute
from flowsheet.tracking.store import connect, is_empty


def list_runs(limit: int = 50) -> tuple[list[str], list[list[object]]]:
    """The latest runs of experiments, newest first: header and rows of a table."""
    header = ["run", "experiment", "status", "started", "minutes", "best"]
    if is_empty():
        return header, []
    client = connect()
    experiments = client.search_experiments(max_results=1000)
    names = {experiment.experiment_id: experiment.name for experiment in experiments}
    runs = client.search_runs(
        list(names),
        "tags.`flowsheet.level` = 'experiment'",
        max_results=limit,
        order_by=["attributes.start_time DESC"],
    )
    return header, [_table_row(run, names) for run in runs]


def _table_row(run: Any, names: Mapping[str, str]) -> list[object]:
    info = run.info
    started = format_local_minute(datetime.fromtimestamp(info.start_time / 1000, UTC))
    minutes = round((info.end_time - info.start_time) / 60_000, 2) if info.end_time else None
    best = run.data.tags.get("flowsheet.best", "")
    return [info.run_id, names[info.experiment_id], info.status.lower(), started, minutes, best]
