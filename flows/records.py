"""What a run leaves on the Prefect server: log lines, and correct states after a kill."""

from __future__ import annotations

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

from flows.liveness import mark_crashed
from flowsheet.errors import mask_secrets
from flowsheet.progress import report

_FLUSH_SECONDS = 10
_EXPERIMENT_FLOW = FlowFilter(name=FlowFilterName(any_=["experiment"]))


def progress_logger(name: str) -> Callable[[str], None]:
    """A function that shows a line of progress and adds it to the run's log."""
    logger = get_run_logger()

    def log(line: str) -> None:
        report(line, name)
        if line:
            logger.info(mask_secrets(line))

    return log


def mark_killed_runs_crashed(tag: str) -> int:
    """Mark earlier, unfinished experiment runs with this tag as crashed; returns their number.

    Call it only while holding the lock of the experiment that the tag stands for: then no other
    run with the tag can be alive. Flow runs that an experiment submitted to a pool are not touched.
    """
    context = FlowRunContext.get()
    own_id = context.flow_run.id if context and context.flow_run else None
    unfinished = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    with_tag = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag]), state=FlowRunFilterState(type=unfinished)
    )
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_filter=_EXPERIMENT_FLOW, flow_run_filter=with_tag)
        killed = [run for run in runs if run.id != own_id]
        for run in killed:
            mark_crashed(client, run.id, "killed; resumed by a later run")
    return len(killed)


def flush_records() -> None:
    """Send queued log lines and events before the server stops, so that none is lost."""
    APILogWorker.drain_all(timeout=_FLUSH_SECONDS)
    EventsWorker.drain_all(timeout=_FLUSH_SECONDS)
