"""Have a work pool train a model: submit, wait, and take up what killed workers have left."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterTags,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.filters import FlowRunFilterStateType as StateTypes
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from flows.liveness import crash, is_dead, is_unresponsive
from flows.retries import is_outage
from flows.training import LEFT_OUT
from flowsheet.errors import CheckFailed, FlowsheetError, UsageError
from flowsheet.lifecycle.experiment import train
from flowsheet.lifecycle.experiment.folds import FoldSpec
from flowsheet.lifecycle.experiment.stage import Progress, Stage, run_stage

_LOOK_SECONDS = 2.0
_DEAD_LOOKS = 3
"""A run that has just ended looks dead until the server knows of its end."""
_CRASHES = 3
_SILENT_SECONDS = 600.0
"""Longer than a busy machine takes from picking a run up to its first line."""
_OUTAGE_SECONDS = 600.0
_OUTAGE_LOOK_SECONDS = 10.0
_WAITERS = ["retrain", "experiment"]
"""Flows that wait for trainings: one that runs keeps a place in the pool from them, and is no sign of work there."""
_UNDER_WAY = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]


def train_on_pool(each: FoldSpec, name: str, run_id: str, say: Progress) -> Stage:
    """The trained model, made by flow runs on the pool that the compute choice names.

    Runs of a former, killed experiment that are at it already are waited for instead of doubled.

    Raises:
        UsageError: the pool has no such deployment.
        CheckFailed: the model does not apply to the task.
        FlowsheetError: training failed, where a worker died after it was tried again; or no worker
        took it up.
    """
    job = _Job(each, name, run_id, train.training_key(each.config, name, each.data), say)
    answered = time.monotonic()
    while not train.is_trained(job.key):
        try:
            job.look()
            answered = time.monotonic()
        except Exception as error:
            silent = time.monotonic() - answered
            if not is_outage(error) or silent > _OUTAGE_SECONDS:
                raise
            say(f"the Prefect server has not answered for {silent:.0f} s; waiting")
            time.sleep(_OUTAGE_LOOK_SECONDS)
        time.sleep(_LOOK_SECONDS)
    found = run_stage("model", job.key, _lost)  # it is there: nothing is made
    return found.model_copy(update={"reused": False})


def _lost(folder: Path) -> None:
    raise FlowsheetError(
        "a trained model is gone from the store",
        where=str(folder),
        todo="start the experiment again",
    )


@dataclass
class _Job:
    each: FoldSpec
    name: str
    run_id: str
    key: str
    say: Progress
    runs: list[UUID] = field(default_factory=list)
    crashed: set[UUID] = field(default_factory=set)
    looks_dead: Counter[UUID] = field(default_factory=Counter)
    worked: float = field(default_factory=time.monotonic)
    """When somebody in the pool was last seen at work."""

    @property
    def tag(self) -> str:
        return f"model:{self.key[:16]}"

    @property
    def wanted(self) -> int:
        """Several can work on one model only where they share a study."""
        return self.each.config.compute.workers if os.environ.get("FLOWSHEET_OPTUNA_URL") else 1

    def look(self) -> None:
        """Submit what is missing, and see what became of the rest."""
        if not self.runs:
            self.runs = [run.id for run in self._under_way()]
            self._submit(self.wanted - len(self.runs))
        runs = self._read(self.runs)
        refusals = [run.state.message for run in runs if run.state and run.state.name == LEFT_OUT]
        if refusals:
            raise CheckFailed(refusals[0] or "the model does not apply")
        if self._bury(runs):
            return  # what the server now says of them is for the next look
        self._must_be_taken_up(runs)
        lost = {run.id for run in runs if run.state_type is StateType.CRASHED} - self.crashed
        self.crashed |= lost
        if lost and len(self.crashed) <= _CRASHES:
            self._submit(len(lost))
        elif all(run.state_type not in _UNDER_WAY for run in runs) and not train.is_trained(
            self.key
        ):
            self._give_up(runs)

    def _submit(self, count: int) -> None:
        deployment = f"train/{self.each.config.compute.pool}"
        parameters = {
            "each": self.each.model_dump(mode="json"),
            "name": self.name,
            "run_id": self.run_id,
        }
        for _ in range(count):
            try:
                run: Any = run_deployment(
                    deployment, parameters=parameters, tags=[self.tag], timeout=0
                )
            except ObjectNotFound:
                raise UsageError(
                    f"the Prefect server has no deployment {deployment}",
                    where=f"compute.pool={self.each.config.compute.pool}",
                    todo="tell it: `prefect deploy --all` in the project's folder",
                ) from None
            self.runs.append(run.id)
            self.say(f"submitted to {deployment} as {run.name}")

    def _under_way(self) -> list[FlowRun]:
        mine = FlowRunFilter(
            tags=FlowRunFilterTags(all_=[self.tag]),
            state=FlowRunFilterState(type=StateTypes(any_=_UNDER_WAY)),
        )
        with get_client(sync_client=True) as client:
            return list(client.read_flow_runs(flow_run_filter=mine))

    def _read(self, runs: Iterable[UUID]) -> list[FlowRun]:
        with get_client(sync_client=True) as client:
            return list(
                client.read_flow_runs(
                    flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=list(runs)))
                )
            )

    def _bury(self, runs: list[FlowRun]) -> bool:
        """Close the runs whose process was killed with its worker; whether there were any."""
        for run in runs:
            self.looks_dead[run.id] = self.looks_dead[run.id] + 1 if _is_lost(run) else 0
        dead = [run for run in runs if self.looks_dead[run.id] >= _DEAD_LOOKS]
        with get_client(sync_client=True) as client:
            for run in dead:
                crash(client, run.id, "its process was killed")
        return bool(dead)

    def _must_be_taken_up(self, runs: list[FlowRun]) -> None:
        """Wait for a busy pool, but not for one where nobody works."""
        waiting = [run for run in runs if run.state_type is StateType.SCHEDULED]
        taken_up = any(run.state_type in (StateType.PENDING, StateType.RUNNING) for run in runs)
        if not waiting or taken_up or self._pool_works():
            self.worked = time.monotonic()
        compute = self.each.config.compute
        if time.monotonic() - self.worked <= compute.pickup_minutes * 60:
            return
        with get_client(sync_client=True) as client:
            for run in waiting:
                client.set_flow_run_state(
                    run.id, Cancelled(message="no worker took it up"), force=True
                )
        raise FlowsheetError(
            f"no worker of the pool {compute.pool} has taken up the training of {self.name}, "
            f"or worked on anything else, for {compute.pickup_minutes:g} minutes",
            where=", ".join(f"flow run {run.name}" for run in waiting),
            todo=f"start a worker (`prefect worker start --pool {compute.pool}`); a retraining that runs on the pool "
            "keeps a place of its worker for itself: give that worker `--limit 2` or more, or start a second one",
        )

    def _pool_works(self) -> bool:
        """Whether a worker of the pool is at a flow run that is not itself waiting for the pool."""
        pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[str(self.each.config.compute.pool)]))
        running = FlowRunFilter(state=FlowRunFilterState(type=StateTypes(any_=[StateType.RUNNING])))
        with get_client(sync_client=True) as client:
            flows = client.read_flows(flow_filter=FlowFilter(name=FlowFilterName(any_=_WAITERS)))
            waiters = {flow.id for flow in flows}
            found = client.read_flow_runs(work_pool_filter=pool, flow_run_filter=running)
        return any(run.flow_id not in waiters and not is_dead(run.id) for run in found)

    def _give_up(self, runs: list[FlowRun]) -> None:
        said = next((run.state.message for run in runs if run.state and run.state.message), None)
        raise FlowsheetError(
            f"training {self.name} on the pool failed",
            where=", ".join(f"flow run {run.name}: {run.state_name}" for run in runs),
            todo=said or "see the flow run's log in the Prefect page",
        )


def _is_lost(run: FlowRun) -> bool:
    """Whether a run that a worker has taken was killed, or for minutes has not so much as begun."""
    if run.state_type not in (StateType.PENDING, StateType.RUNNING) or run.state is None:
        return False
    age = datetime.now(UTC) - run.state.timestamp
    return is_dead(run.id) or (is_unresponsive(run.id) and age.total_seconds() > _SILENT_SECONDS)
