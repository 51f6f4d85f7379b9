"""Pieces whose process is killed are left to the step, and Prefect's page says that it was."""

from __future__ import annotations

import os
import signal
import time

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL

from flows import pieces
from flows.liveness import PROCESS_KILLED
from flows.pieces import Pieces, build_pieces
from flows.records import flush_records
from flows.runners import make_task_runner
from flowsheet.config import ComputeConfig

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.usefixtures("prefect_server"),
]
TWO = ComputeConfig(name="two", workers=2)
_SECONDS = 60.0


@task(cache_policy=NO_CACHE)
def build(number: int) -> int:
    flush_records()  # as by itself after a moment
    if number == 1:
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)  # ended together with the killed one
    return number


@flow(task_runner=make_task_runner(TWO))
def build_three() -> str:
    build_pieces(
        Pieces(
            task=build,
            parameters=[{"number": number} for number in (1, 2, 3)],
            memory=1,
            step="test",
            name="pieces of a test",
        ),
        TWO,
    )
    context = FlowRunContext.get()
    assert context
    assert context.flow_run
    return str(context.flow_run.id)


def test_the_task_of_a_killed_process_has_crashed_as_soon_as_the_flow_goes_on(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    lines: list[str] = []
    monkeypatch.setattr(pieces, "progress_logger", lambda name: lines.append)
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[build_three()]))
    assert "a process of test was killed" in lines[-1]
    deadline = time.monotonic() + _SECONDS
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:  # what processes report arrives later
            time.sleep(1)
            states = [run.state for run in client.read_task_runs(flow_run_filter=of_run)]
            if states and not any(state.type == StateType.RUNNING for state in states):
                break
    crashed = [state for state in states if state.type == StateType.CRASHED]
    assert crashed
    assert {state.message for state in crashed} == {PROCESS_KILLED}
    assert crashed == states
