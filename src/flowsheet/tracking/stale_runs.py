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
_LEVELS_BELOW_EXPERIMENT = ("model", "fold")
_LEVELS_WITHOUT_LOCK = ("comparison", "evaluation", "event", *_LEVELS_BELOW_EXPERIMENT)


def close_child_runs(client: RetryingClient, run_id: str) -> None:
    """Close the open runs below a run."""
    experiment_id = client.get_run(run_id).info.experiment_id
    for run in client.search_runs([experiment_id], _IS_RUNNING, max_results=10_000):
        if run_id in _iter_ancestors(client, run):
            client.set_terminated(run.info.run_id, "KILLED")


def find_killed_runs(
    client: RetryingClient, is_stale: IsStale, minutes: float
) -> Iterator[tuple[str, str]]:
    """Open runs whose process is gone, and why it must be: (run id, reason).

    Args:
        client: of the store.
        is_stale: whether the process that had a run's lock is gone.
        minutes: after which an open run without a lock counts as one: comparisons, evaluations and
            events, and models whose experiment has ended.
    """
    experiments = [e.experiment_id for e in client.search_experiments(max_results=1000)]
    oldest_start = (time.time() - minutes * 60) * 1000
    silent = f"it has no lock, and has not ended within {minutes:g} minutes"
    for run in _search_open_runs(client, experiments, "experiment"):
        run_lock = run.data.tags.get(RUN_LOCK)
        if not run_lock and run.info.start_time < oldest_start:
            yield run.info.run_id, silent
        with is_stale(run_lock or "") as is_killed:
            if is_killed:
                yield run.info.run_id, "its process was killed"
    for level in _LEVELS_WITHOUT_LOCK:
        for run in _search_open_runs(client, experiments, level):
            is_old = run.info.start_time < oldest_start
            if is_old and not _has_open_parent(client, run):
                yield run.info.run_id, silent


def _has_open_parent(client: RetryingClient, run: Any) -> bool:
    """Whether the run belongs to one that is open itself, and closes it."""
    if run.data.tags.get("flowsheet.level") not in _LEVELS_BELOW_EXPERIMENT:
        return False
    return any(
        client.get_run(parent).info.status == "RUNNING" for parent in _iter_ancestors(client, run)
    )


def _search_open_runs(client: RetryingClient, experiments: list[str], level: str) -> list[Any]:
    query = f"{_IS_RUNNING} and tags.`flowsheet.level` = '{level}'"
    return list(client.search_runs(experiments, query, max_results=1000))


def _iter_ancestors(client: RetryingClient, run: Any) -> Iterator[str]:
    """Ids of the runs above a run, its parent first."""
    while parent := run.data.tags.get("mlflow.parentRunId"):
        yield parent
        run = client.get_run(parent)
