"""Which flow runs are alive: each holds a lock in the shared store, which the kernel frees when its
process ends.

A server learns nothing of a process that is killed with its worker; such a run would count as
running for ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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
from prefect.states import Crashed

from flowsheet.state.hashing import digest
from flowsheet.state.locks import exclusive_lock, try_lock
from flowsheet.state.store import Store

_UNDER_WAY = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]


def _lock(run: UUID) -> Path:
    return Store.open().root / ".locks" / f"flowrun-{digest(str(run))[:16]}"


@contextlib.contextmanager
def present() -> Iterator[None]:
    """Be seen to be alive during the block; earlier runs of this flow that are dead are closed."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        yield  # the function was called without Prefect
        return
    mark_dead_runs_crashed(context.flow.name)
    path = _lock(context.flow_run.id)
    with exclusive_lock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_dead(run: UUID) -> bool:
    """Whether a run was present and is so no longer, without having come to an end of its own."""
    path = _lock(run)
    try:
        with try_lock(path) as is_free:
            return is_free and path.exists()  # else it has ended while we asked
    except FileNotFoundError:  # not begun yet, or just ended
        return False


def is_unresponsive(run: UUID) -> bool:
    """Whether a run is not present, and was not left so by a kill: it has not begun, or has ended."""
    return not _lock(run).exists()


def crash(client: SyncPrefectClient, run: UUID, why: str) -> None:
    """Close a flow run whose process is gone, and its tasks with it."""
    client.set_flow_run_state(run, Crashed(message=why), force=True)
    wanted = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_UNDER_WAY)))
    mine = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
    for task in client.read_task_runs(flow_run_filter=mine, task_run_filter=wanted):
        client.set_task_run_state(task.id, Crashed(message=why), force=True)


def mark_dead_runs_crashed(flow: str) -> list[FlowRun]:
    """Mark the dead runs of a flow that still count as running as crashed."""
    running = FlowRunFilter(state=FlowRunFilterState(type=StateTypes(any_=[StateType.RUNNING])))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])), flow_run_filter=running
        )
        dead = [run for run in found if is_dead(run.id)]
        for run in dead:
            crash(client, run.id, "its process was killed")
            _lock(run.id).unlink(missing_ok=True)
    return dead
