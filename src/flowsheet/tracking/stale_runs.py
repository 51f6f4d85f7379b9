"""Find and close runs that MLflow counts as running although their process was killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from flowsheet.tracking.store import RetryingClient

IsStale = Callable[[str], AbstractContextManager[bool]]
"""Whether the process that had a run's lock is gone. Within the block, no other process can take
the lock."""
RUN_LOCK = "flowsheet.run_lock"
"""Tag with the lock of an experiment's run."""
_IS_RUNNING = "attributes.status = 'RUNNING'"
_MAX_SECONDS = 24 * 3600
"""Comparisons and events have no lock; they are recorded within minutes."""


def close_child_runs(client: RetryingClient, run_id: str) -> None:
    """Close the open runs below a run."""
    experiment_id = client.get_run(run_id).info.experiment_id
    for run in client.search_runs([experiment_id], _IS_RUNNING, max_results=10_000):
        if run_id in _iter_ancestors(client, run):
            client.set_terminated(run.info.run_id, "KILLED")


def find_killed_runs(client: RetryingClient, is_stale: IsStale) -> Iterator[str]:
    """Ids of open runs: of experiments whose process is gone, and of old comparisons and events."""
    experiments = [e.experiment_id for e in client.search_experiments(max_results=1000)]
    for run in _search_open_runs(client, experiments, "experiment"):
        with is_stale(run.data.tags.get(RUN_LOCK, "")) as is_killed:
            if is_killed:
                yield run.info.run_id
    oldest_start = int((time.time() - _MAX_SECONDS) * 1000)
    for level in ("comparison", "event"):
        for run in _search_open_runs(client, experiments, level):
            if run.info.start_time < oldest_start:
                yield run.info.run_id


def _search_open_runs(client: RetryingClient, experiments: list[str], level: str) -> list[Any]:
    query = f"{_IS_RUNNING} and tags.`flowsheet.level` = '{level}'"
    return list(client.search_runs(experiments, query, max_results=1000))


def _iter_ancestors(client: RetryingClient, run: Any) -> Iterator[str]:
    """Ids of the runs above a run, its parent first."""
    while parent := run.data.tags.get("mlflow.parentRunId"):
        yield parent
        run = client.get_run(parent)
