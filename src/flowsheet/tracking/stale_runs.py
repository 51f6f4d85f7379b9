"""Runs that count as running although nobody works on them: what a kill has left open."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from flowsheet.tracking.store import RetryingClient

IsStale = Callable[[str], AbstractContextManager[bool]]
"""Tells of a run's lock whether its process is gone, and keeps it so as long as the block lasts."""
RUN_LOCK = "flowsheet.run_lock"
"""The tag that names who works on an experiment's run."""
_OPEN = "attributes.status = 'RUNNING'"
_AT_MOST_SECONDS = 24 * 3600
"""Comparisons and notes have no lock; they are made in minutes."""


def close_child_runs(client: RetryingClient, run_id: str) -> None:
    """End the open runs below one."""
    experiment_id = client.get_run(run_id).info.experiment_id
    for run in client.search_runs([experiment_id], _OPEN, max_results=10_000):
        if run_id in _above(client, run):
            client.set_terminated(run.info.run_id, "KILLED")


def find_killed_runs(client: RetryingClient, is_stale: IsStale) -> Iterator[str]:
    """The open runs of experiments whose process is gone, and forgotten comparisons and notes."""
    everywhere = [e.experiment_id for e in client.search_experiments(max_results=1000)]
    for run in _open(client, everywhere, "experiment"):
        with is_stale(run.data.tags.get(RUN_LOCK, "")) as gone:
            if gone:
                yield run.info.run_id
    oldest = int((time.time() - _AT_MOST_SECONDS) * 1000)
    for level in ("comparison", "event"):
        yield from (
            run.info.run_id
            for run in _open(client, everywhere, level)
            if run.info.start_time < oldest
        )


def _open(client: RetryingClient, experiments: list[str], level: str) -> list[Any]:
    return list(
        client.search_runs(
            experiments, f"{_OPEN} and tags.`flowsheet.level` = '{level}'", max_results=1000
        )
    )


def _above(client: RetryingClient, run: Any) -> Iterator[str]:
    """The runs that a run is below, the nearest first."""
    while parent := run.data.tags.get("mlflow.parentRunId"):
        yield parent
        run = client.get_run(parent)
