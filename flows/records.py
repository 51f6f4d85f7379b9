"""What a run leaves on the Prefect server: log lines, and correct states after a kill."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

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
from flowsheet.lifecycle.runtime.local_servers import find_prefect_url
from flowsheet.progress import report
from flowsheet.state.home import home

_FLUSH_SECONDS = 10
_LOCAL_PAGE = "http://127.0.0.1:4200"
"""Where `flowsheet ui` serves Prefect's pages, unless it is given another port."""
_EXPERIMENT_FLOW = FlowFilter(name=FlowFilterName(any_=["experiment"]))


def progress_logger(name: str) -> Callable[[str], None]:
    """A function that shows a line of progress and adds it to the run's log."""
    logger = get_run_logger()

    def log(line: str) -> None:
        report(line, name)
        if line:
            logger.info(mask_secrets(line))

    return log


def page_during_run() -> str:
    """Address of the pages of the Prefect server that this run uses."""
    return os.environ.get("PREFECT_API_URL", f"{_LOCAL_PAGE}/api").removesuffix("/api")


def page_after_run() -> str:
    """Address of the Prefect pages once the run has ended, and with it a server of its own."""
    server = os.environ.get("PREFECT_API_URL")
    is_own = server is None or server == find_prefect_url(home())
    return _LOCAL_PAGE if is_own else page_during_run()


def flow_run_page(server: str) -> str:
    """Address of this flow run's page on a server."""
    context = FlowRunContext.get()
    assert context
    assert context.flow_run
    return f"{server}/runs/flow-run/{context.flow_run.id}"


def mark_killed_runs_crashed(tag: str, is_same: Callable[[Mapping[str, Any]], bool]) -> int:
    """Mark earlier, unfinished runs of an experiment as crashed; returns their number.

    Call it only while holding the lock of the experiment: then no other run of it can be alive.
    Flow runs that an experiment submitted to a pool are not touched.

    Args:
        tag: a tag of the runs.
        is_same: whether a run with these parameters is one of the experiment.
    """
    context = FlowRunContext.get()
    own_id = context.flow_run.id if context and context.flow_run else None
    unfinished = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    with_tag = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag]), state=FlowRunFilterState(type=unfinished)
    )
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_filter=_EXPERIMENT_FLOW, flow_run_filter=with_tag)
        killed = [run for run in runs if run.id != own_id and is_same(run.parameters)]
        for run in killed:
            mark_crashed(client, run.id, "killed; resumed by a later run")
    return len(killed)


def flush_records() -> None:
    """Send queued log lines and events before the server stops, so that none is lost."""
    APILogWorker.drain_all(timeout=_FLUSH_SECONDS)
    EventsWorker.drain_all(timeout=_FLUSH_SECONDS)
