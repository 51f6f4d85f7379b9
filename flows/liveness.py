"""Detect flow runs whose process was killed: every active run holds a lock in the shared store.

The kernel releases the lock when the process ends. The Prefect server does not notice when a
process is killed together with its worker; without the lock, such a run would stay in the state
Running forever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.filters import FlowRunFilterStateType as StateTypes
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Crashed

from flowsheet.state.hashing import digest
from flowsheet.state.locks import exclusive_lock, try_lock
from flowsheet.state.store import Store

_UNFINISHED = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]


def _lock_path(run_id: UUID) -> Path:
    return Store.open().root / ".locks" / f"flowrun-{digest(str(run_id))[:16]}"


@contextlib.contextmanager
def keep_alive() -> Iterator[None]:
    """Hold the flow run's lock inside the block, after marking the flow's dead runs as crashed."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        yield  # the function was called without Prefect
        return
    mark_dead_runs_crashed(context.flow.name)
    path = _lock_path(context.flow_run.id)
    with exclusive_lock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_dead(run_id: UUID) -> bool:
    """Whether the run's process was killed: it left a lock file that no process holds."""
    path = _lock_path(run_id)
    try:
        with try_lock(path) as is_free:
            return is_free and path.exists()  # a run that ended in the meantime removed the file
    except FileNotFoundError:  # the run has not started or has just ended
        return False


def is_unresponsive(run_id: UUID) -> bool:
    """Whether the run has no lock file: it has not started, or has ended."""
    return not _lock_path(run_id).exists()


def mark_crashed(client: SyncPrefectClient, run_id: UUID, reason: str) -> None:
    """Set a flow run whose process is gone, and its unfinished task runs, to the state Crashed."""
    client.set_flow_run_state(run_id, Crashed(message=reason), force=True)
    unfinished = TaskRunFilter(
        state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_UNFINISHED))
    )
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    for task_run in client.read_task_runs(flow_run_filter=of_run, task_run_filter=unfinished):
        client.set_task_run_state(task_run.id, Crashed(message=reason), force=True)


def mark_tasks_crashed(task_run_ids: Iterable[UUID], reason: str) -> None:
    """Set task runs whose process was killed to the state Crashed."""
    with get_client(sync_client=True) as client:
        for task_run_id in task_run_ids:
            try:
                client.set_task_run_state(task_run_id, Crashed(message=reason), force=True)
            except PrefectHTTPStatusError as error:
                if error.response.status_code != HTTPStatus.NOT_FOUND:  # it had not started
                    raise


def mark_dead_runs_crashed(flow_name: str) -> list[FlowRun]:
    """Mark the dead runs of a flow as crashed; returns them."""
    running = FlowRunFilter(state=FlowRunFilterState(type=StateTypes(any_=[StateType.RUNNING])))
    of_flow = FlowFilter(name=FlowFilterName(any_=[flow_name]))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_filter=of_flow, flow_run_filter=running)
        dead_runs = [run for run in runs if is_dead(run.id)]
        for run in dead_runs:
            mark_crashed(client, run.id, "its process was killed")
            _lock_path(run.id).unlink(missing_ok=True)
    return dead_runs
