"""What the Prefect server is told, and made to keep: log lines, killed runs, the last records before exit."""

from __future__ import annotations

import sys
from collections.abc import Callable

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.events.worker import EventsWorker
from prefect.logging import get_run_logger
from prefect.logging.handlers import APILogWorker

from flows.liveness import crash

_FLUSH_SECONDS = 10
_EXPERIMENTS = FlowFilter(name=FlowFilterName(any_=["experiment"]))


def progress(name: str) -> Callable[[str], None]:
    """A function that shows a line on the terminal and keeps it with the Prefect run."""
    logger = get_run_logger()

    def say(line: str) -> None:
        print(f"[{name}] {line}", file=sys.stderr, flush=True)
        logger.info(line)

    return say


def mark_killed_runs_crashed(tag: str) -> int:
    """Mark earlier experiments with this tag that still count as running as crashed; returns how
    many.

    To be called while holding the lock of the work that the tag names: no living run can have it
    then.
    """
    context = FlowRunContext.get()
    own = context.flow_run.id if context and context.flow_run else None
    running = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag]),
        state=FlowRunFilterState(
            type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
        ),
    )
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_filter=_EXPERIMENTS, flow_run_filter=running
        )  # not what it has submitted
        killed = [run for run in found if run.id != own]
        for run in killed:
            crash(client, run.id, "killed; taken up by a later run")
    return len(killed)


def flush() -> None:
    """Send what is still queued, so that no record is lost when the server stops after the run."""
    APILogWorker.drain_all(timeout=_FLUSH_SECONDS)
    EventsWorker.drain_all(timeout=_FLUSH_SECONDS)
