"""Which flow runs are alive: each holds a lock in the shared store, which the kernel frees when its process ends.

A server learns nothing of a process that is killed with its worker; such a run would count as running for ever.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterState
from prefect.client.schemas.filters import FlowRunFilterStateType as StateTypes
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.states import Crashed

from flowsheet.home import Store, digest, locked


def _lock(run: UUID) -> Path:
    return Store.open().root / ".locks" / f"flowrun-{digest(str(run))[:16]}"


@contextlib.contextmanager
def present() -> Iterator[None]:
    """Be seen to be alive during the block; earlier runs of this flow that are dead are closed."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        yield  # the function was called without Prefect
        return
    close_dead(context.flow.name)
    path = _lock(context.flow_run.id)
    with locked(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_dead(run: UUID) -> bool:
    """Whether a run was present and is so no longer, without having come to an end of its own."""
    try:
        with _lock(run).open("r+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:  # not begun yet, or just ended
        return False
    except BlockingIOError:
        return False
    return True


def is_silent(run: UUID) -> bool:
    """Whether a run is not present, and was not left so by a kill: it has not begun, or has ended."""
    return not _lock(run).exists()


def close_dead(flow: str) -> list[FlowRun]:
    """Mark the dead runs of a flow that still count as running as crashed."""
    running = FlowRunFilter(state=FlowRunFilterState(type=StateTypes(any_=[StateType.RUNNING])))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])), flow_run_filter=running)
        dead = [run for run in found if is_dead(run.id)]
        for run in dead:
            client.set_flow_run_state(run.id, Crashed(message="its process was killed"), force=True)
            _lock(run.id).unlink(missing_ok=True)
    return dead
