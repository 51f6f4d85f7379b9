"""Close runs whose process has ended without a word, and start crashed retrainings again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
)
from prefect.client.schemas.filters import FlowRunFilterStateType as StateTypes
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import AwaitingRetry

from flows.liveness import keep_alive, mark_dead_runs_crashed
from flows.process_settings import prepare_flow_process
from flows.records import progress_logger
from flowsheet.lifecycle.experiment.lock import close_dead_runs as close_dead_mlflow_runs

_RETRIED_FLOWS = ["retrain"]
_MAX_ATTEMPTS = 3
_RETRY_HOURS = 24


@flow(name="dead-runs", flow_run_name="dead-runs")
def close_dead_runs(minutes: float | None = None) -> list[str]:
    """Mark dead runs in Prefect and MLflow, and schedule crashed retrainings again.

    Args:
        minutes: without a lock and a sign of life, after which a run counts as dead; None:
            ``FLOWSHEET_DEAD_RUN_MINUTES``.

    Returns:
        The names of the flow runs that were marked or scheduled.
    """
    prepare_flow_process()
    progress = progress_logger("dead runs")
    with keep_alive():
        dead = mark_dead_runs_crashed(minutes)
        close_dead_mlflow_runs(minutes)
        retried = retry_crashed_runs()
    for run in dead:
        progress(f"{run.name} was dead: marked as crashed")
    for run in retried:
        progress(f"{run.name} crashed: attempt {run.run_count + 1} of {_MAX_ATTEMPTS} is scheduled")
    return [run.name for run in (*dead, *retried)]


def retry_crashed_runs() -> list[FlowRun]:
    """Schedule crashed retrainings again; returns them.

    Not those that crashed more than a day ago or too often, and not those after which the same
    deployment has run again.
    """
    crashed = FlowRunFilter(state=FlowRunFilterState(type=StateTypes(any_=[StateType.CRASHED])))
    retried_flows = FlowFilter(name=FlowFilterName(any_=_RETRIED_FLOWS))
    retried = []
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_filter=retried_flows, flow_run_filter=crashed):
            if _may_retry(client, run):
                message = f"attempt {run.run_count + 1} of {_MAX_ATTEMPTS}, after a crash"
                state: State[Any] = AwaitingRetry(scheduled_time=datetime.now(UTC), message=message)
                client.set_flow_run_state(run.id, state, force=True)
                retried.append(run)
    return retried


def _may_retry(client: SyncPrefectClient, run: FlowRun) -> bool:
    if run.deployment_id is None or run.state is None or run.run_count >= _MAX_ATTEMPTS:
        return False
    if datetime.now(UTC) - run.state.timestamp > timedelta(hours=_RETRY_HOURS):
        return False
    of_deployment = DeploymentFilter(id=DeploymentFilterId(any_=[run.deployment_id]))
    runs = client.read_flow_runs(deployment_filter=of_deployment)
    return not any(_is_successor(other, run) for other in runs)


def _is_successor(other: FlowRun, run: FlowRun) -> bool:
    """Whether a run of the same deployment has begun since, or is tried again already."""
    if other.start_time is None or run.start_time is None or other.id == run.id:
        return False
    return other.start_time > run.start_time
