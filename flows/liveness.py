"""Detect flow runs whose process was killed: every active run holds a lock in the shared store.

The kernel releases the lock when the process ends. The Prefect server does not notice when a
process is killed together with its worker; without the lock, such a run would stay in the state
Running forever. So would a run that could not report its end: it has no lock any more, and counts
as dead after some minutes without a sign of life.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
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

from flowsheet.lifecycle.runtime.dead_runs import dead_run_minutes
from flowsheet.state.folder_id import read_folder_id
from flowsheet.state.hashing import digest
from flowsheet.state.locks import exclusive_lock, try_lock
from flowsheet.state.store import Store

FLOW_NAMES = (
    *("experiment", "retrain", "train", "ingest", "scoring", "monitoring", "promotion"),
    *("outcomes", "batches", "ingest in workers", "dead-runs"),
)
"""Flows whose runs hold a lock."""
LOCKS_LABEL = "flowsheet.locks"
"""Label of a flow run: the id of the folder that holds its lock."""
PROCESS_KILLED = "its process was killed"
"""Why a run has crashed."""
_UNFINISHED = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]
_STARTED = [StateType.PENDING, StateType.RUNNING]
_RECORDED_SECONDS = 10.0
"""In which Prefect's server records what a process has reported."""
_KEPT_SECONDS = 24 * 3600
"""How long the end of a run is remembered."""


def _locks() -> Path:
    return Store.open().root / ".locks"


def _lock_path(run_id: UUID) -> Path:
    return _locks() / f"flowrun-{digest(str(run_id))[:16]}"


def _end_path(run_id: UUID) -> Path:
    """A file whose time is when the run's process has left :func:`keep_alive`."""
    return _locks() / f"flowrun-{digest(str(run_id))[:16]}.ended"


@contextlib.contextmanager
def keep_alive() -> Iterator[None]:
    """Hold the flow run's lock inside the block, after marking dead runs as crashed."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        yield  # the function was called without Prefect
        return
    mark_dead_runs_crashed()
    path = _lock_path(context.flow_run.id)
    with exclusive_lock(path):
        with get_client(sync_client=True) as client:
            label: dict[str, bool | int | float | str] = {LOCKS_LABEL: read_folder_id(_locks())}
            client.update_flow_run_labels(context.flow_run.id, label)
        try:
            yield
        finally:
            _end_path(context.flow_run.id).touch()
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


def mark_tasks_crashed(task_run_ids: Sequence[UUID], reason: str) -> None:
    """Set task runs whose process was killed to the state Crashed.

    The server records what processes report after some seconds. A task run that it does not know
    then had not started.
    """
    with get_client(sync_client=True) as client:
        unknown = [run for run in task_run_ids if not _mark_task_crashed(client, run, reason)]
        if unknown:
            time.sleep(_RECORDED_SECONDS)
        for run in unknown:
            _mark_task_crashed(client, run, reason)


def _mark_task_crashed(client: SyncPrefectClient, task_run_id: UUID, reason: str) -> bool:
    """Set the state of a task run; False where the server does not know it."""
    try:
        client.set_task_run_state(task_run_id, Crashed(message=reason), force=True)
    except PrefectHTTPStatusError as error:
        if error.response.status_code != HTTPStatus.NOT_FOUND:
            raise
        return False
    return True


def mark_dead_runs_crashed(minutes: float | None = None) -> list[FlowRun]:
    """Mark the dead runs of all flows as crashed; returns them.

    Args:
        minutes: without a lock and a sign of life; None: :func:`dead_run_minutes`.
    """
    limit = minutes or dead_run_minutes()
    started = FlowRunFilter(state=FlowRunFilterState(type=StateTypes(any_=_STARTED)))
    of_flows = FlowFilter(name=FlowFilterName(any_=list(FLOW_NAMES)))
    context = FlowRunContext.get()
    own_id = context.flow_run.id if context and context.flow_run else None
    dead_runs = []
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_filter=of_flows, flow_run_filter=started):
            reason = None if run.id == own_id else _find_death(run, limit)
            if reason:
                mark_crashed(client, run.id, reason)
                _lock_path(run.id).unlink(missing_ok=True)
                dead_runs.append(run)
    _forget_old_ends()
    return dead_runs


def _find_death(run: FlowRun, minutes: float) -> str | None:
    """Why the run counts as dead; None if it may be alive."""
    if is_dead(run.id):
        return PROCESS_KILLED
    locks = run.labels.get(LOCKS_LABEL)
    is_elsewhere = locks is not None and locks != read_folder_id(_locks())
    if is_elsewhere or run.state is None or not is_unresponsive(run.id):
        return None
    sign_of_life = run.state.timestamp.timestamp()
    with contextlib.suppress(FileNotFoundError):
        sign_of_life = max(sign_of_life, _end_path(run.id).stat().st_mtime)
    if time.time() - sign_of_life <= minutes * 60:
        return None
    return (
        f"no process has held its lock for {minutes:g} minutes: it was killed, or could not report "
        "its end"
    )


def _forget_old_ends() -> None:
    oldest = time.time() - _KEPT_SECONDS
    for path in _locks().glob("flowrun-*.ended"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
