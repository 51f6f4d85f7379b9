"""Train a model on a work pool: submit flow runs, wait for them, and replace killed ones."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
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
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled

from flows.liveness import is_dead, is_unresponsive, mark_crashed
from flows.retries import is_outage
from flows.training import NOT_APPLICABLE
from flowsheet.errors import CheckFailed, FlowsheetError, UsageError
from flowsheet.lifecycle.experiment import train
from flowsheet.lifecycle.experiment.folds import FoldSpec
from flowsheet.lifecycle.experiment.stage import Stage, run_stage
from flowsheet.typing import Progress

_POLL_SECONDS = 2.0
_DEAD_POLLS = 3
"""Polls in a row after which a run counts as dead: one that has just ended looks dead until the
server knows."""
_MAX_CRASHES = 3
_SIGKILL = re.compile(r"status code:? (-9|137)\b")
"""In the message of a crashed run: the exit code of a process, or of a container."""
_START_SECONDS = 600.0
"""Longer than a busy machine takes from picking a run up to its first line."""
_OUTAGE_SECONDS = 600.0
_OUTAGE_POLL_SECONDS = 10.0
_WAITING_FLOWS = ["retrain", "experiment"]
"""Flows that wait for trainings: while one runs on the pool, it occupies a slot of a worker but is
no sign that the worker makes progress."""
_UNFINISHED = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]


def train_on_pool(fold: FoldSpec, model: str, run_id: str, progress: Progress) -> Stage:
    """Train a model with flow runs on the pool that ``compute.pool`` names.

    Unfinished runs that an earlier, killed experiment submitted for the same model are waited for;
    they are not submitted again.

    Args:
        fold: the fold's configuration and references to its data.
        model: the model's name in the experiment.
        run_id: the MLflow run to which trials are recorded.
        progress: called with a line for each submitted run.

    Raises:
        UsageError: the pool has no such deployment.
        CheckFailed: the model does not apply to the task.
        FlowsheetError: the training failed, crashed too often, or was not picked up by a worker.
    """
    key = train.training_key(fold.config, model, fold.data)
    training = _PoolTraining(fold, model, run_id, key, progress)
    last_answer = time.monotonic()
    while not train.is_trained(key):
        try:
            training.poll()
            last_answer = time.monotonic()
        except Exception as error:
            outage_seconds = time.monotonic() - last_answer
            if not is_outage(error) or outage_seconds > _OUTAGE_SECONDS:
                raise
            progress(f"the Prefect server has not answered for {outage_seconds:.0f} s; waiting")
            time.sleep(_OUTAGE_POLL_SECONDS)
        time.sleep(_POLL_SECONDS)
    stage = run_stage("model", key, _raise_missing)  # the stage exists: nothing is built
    return stage.model_copy(update={"reused": False})


def _raise_missing(folder: Path) -> None:
    raise FlowsheetError(
        "a trained model has disappeared from the store",
        where=str(folder),
        todo="start the experiment again",
    )


@dataclass
class _PoolTraining:
    """The flow runs that train one model."""

    fold: FoldSpec
    model: str
    run_id: str
    key: str
    """Training key of the model."""
    progress: Progress
    flow_runs: list[UUID] = field(default_factory=list)
    crashed: set[UUID] = field(default_factory=set)
    dead_polls: Counter[UUID] = field(default_factory=Counter)
    """Polls in a row at which a run looked dead."""
    last_activity: float = field(default_factory=time.monotonic)
    """When a worker of the pool was last seen working."""

    @property
    def tag(self) -> str:
        """Prefect tag of all runs that train this model."""
        return f"training key: {self.key[:16]}"

    @property
    def deployment(self) -> str:
        """The deployment that trains; its work pool may have another name, as on Kubernetes."""
        return f"train/{self.fold.config.compute.pool}"

    @property
    def run_count(self) -> int:
        """Number of runs to submit: several can train one model only if they share a study."""
        return self.fold.config.compute.workers if train.shared_study_url() else 1

    def poll(self) -> None:
        """Submit missing runs and check the state of the others."""
        if not self.flow_runs:
            self.flow_runs = [run.id for run in self._find_unfinished_runs()]
            self._submit(self.run_count - len(self.flow_runs))
        runs = self._read_runs(self.flow_runs)
        for run in runs:
            if run.state and run.state.name == NOT_APPLICABLE:
                raise CheckFailed(run.state.message or "the model does not apply to the task")
        if self._mark_dead_runs_crashed(runs):
            return  # their new states are read at the next poll
        self._check_picked_up(runs)
        newly_crashed = {run.id for run in runs if run.state_type is StateType.CRASHED}
        newly_crashed -= self.crashed
        self.crashed |= newly_crashed
        if newly_crashed and len(self.crashed) <= _MAX_CRASHES:
            self._replace([run for run in runs if run.id in newly_crashed])
            return
        all_finished = all(run.state_type not in _UNFINISHED for run in runs)
        if all_finished and not train.is_trained(self.key):
            self._raise_failed(runs)

    def _replace(self, crashed_runs: list[FlowRun]) -> None:
        """Submit a run for each crashed one; where memory ran out, one that trains alone."""
        killed = [run for run in crashed_runs if _is_memory_kill(run)]
        for run in killed:
            self.progress(
                f"{run.name} was killed, most likely because memory ran out: "
                f"{self.model} is submitted again, to train alone on its machine"
            )
        self._submit(len(killed), alone=True)
        self._submit(len(crashed_runs) - len(killed))

    def _submit(self, count: int, *, alone: bool = False) -> None:
        parameters = {
            "fold": self.fold.model_dump(mode="json"),
            "model": self.model,
            "run_id": self.run_id,
            **({"alone": True} if alone else {}),
        }
        for _ in range(count):
            try:
                run: Any = run_deployment(
                    self.deployment,
                    parameters=parameters,
                    tags=[f"model: {self.model}", self.tag],
                    timeout=0,
                )
            except ObjectNotFound:
                raise UsageError(
                    f"the Prefect server has no deployment {self.deployment}",
                    where=f"compute.pool={self.fold.config.compute.pool}",
                    todo="create it: run `prefect deploy --all` in the project's folder",
                ) from None
            except PrefectHTTPStatusError as error:
                if error.response.status_code != HTTPStatus.CONFLICT:
                    raise
                raise UsageError(
                    f"the deployment {self.deployment} does not take the parameters of this "
                    "release: another release has made it",
                    where=f"compute.pool={self.fold.config.compute.pool}",
                    todo="deploy again with this release (`prefect --no-prompt deploy --all`), and "
                    "let all workers have it",
                ) from None
            self.flow_runs.append(run.id)
            self.progress(f"submitted to {self.deployment} as {run.name}")

    def _find_unfinished_runs(self) -> list[FlowRun]:
        with_tag = FlowRunFilter(
            tags=FlowRunFilterTags(all_=[self.tag]),
            state=FlowRunFilterState(type=StateTypes(any_=_UNFINISHED)),
        )
        with get_client(sync_client=True) as client:
            return list(client.read_flow_runs(flow_run_filter=with_tag))

    def _read_runs(self, run_ids: Iterable[UUID]) -> list[FlowRun]:
        by_id = FlowRunFilter(id=FlowRunFilterId(any_=list(run_ids)))
        with get_client(sync_client=True) as client:
            return list(client.read_flow_runs(flow_run_filter=by_id))

    def _mark_dead_runs_crashed(self, runs: list[FlowRun]) -> bool:
        """Mark runs as crashed whose process was killed; returns whether there were any."""
        for run in runs:
            self.dead_polls[run.id] = self.dead_polls[run.id] + 1 if _looks_dead(run) else 0
        dead_runs = [run for run in runs if self.dead_polls[run.id] >= _DEAD_POLLS]
        with get_client(sync_client=True) as client:
            for run in dead_runs:
                mark_crashed(client, run.id, "its process was killed")
        return bool(dead_runs)

    def _check_picked_up(self, runs: list[FlowRun]) -> None:
        """Wait while the pool is busy, but not for a pool without a working worker.

        Raises:
            FlowsheetError: nothing was picked up for ``compute.pickup_minutes``.
        """
        scheduled = [run for run in runs if run.state_type is StateType.SCHEDULED]
        picked_up = any(run.state_type in (StateType.PENDING, StateType.RUNNING) for run in runs)
        if not scheduled or picked_up or self._is_pool_working():
            self.last_activity = time.monotonic()
        compute = self.fold.config.compute
        if time.monotonic() - self.last_activity <= compute.pickup_minutes * 60:
            return
        with get_client(sync_client=True) as client:
            for run in scheduled:
                state: State[Any] = Cancelled(message="no worker picked it up")
                client.set_flow_run_state(run.id, state, force=True)
        raise FlowsheetError(
            f"no worker of the pool {compute.pool} has picked up the training of {self.model}, "
            f"or worked on anything else, for {compute.pickup_minutes:g} minutes",
            where=", ".join(f"flow run {run.name}" for run in scheduled),
            todo=f"start a worker (`flowsheet worker {compute.pool}`); a retraining "
            "that runs on the pool occupies a slot of its worker: start that worker with "
            "`--limit 2` or more, or start a second one",
        )

    def _is_pool_working(self) -> bool:
        """Whether a worker of the pool runs a flow that does not itself wait for the pool."""
        running = FlowRunFilter(state=FlowRunFilterState(type=StateTypes(any_=[StateType.RUNNING])))
        waiting = FlowFilter(name=FlowFilterName(any_=_WAITING_FLOWS))
        with get_client(sync_client=True) as client:
            pool_name = client.read_deployment_by_name(self.deployment).work_pool_name
            pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[str(pool_name)]))
            waiting_flow_ids = {flow.id for flow in client.read_flows(flow_filter=waiting)}
            runs = client.read_flow_runs(work_pool_filter=pool, flow_run_filter=running)
        return any(run.flow_id not in waiting_flow_ids and not is_dead(run.id) for run in runs)

    def _raise_failed(self, runs: list[FlowRun]) -> None:
        if any(_is_memory_kill(run) for run in runs):
            raise FlowsheetError(
                f"training {self.model} was killed again and again, most likely because memory "
                "ran out",
                where=", ".join(f"flow run {run.name}: {run.state_name}" for run in runs),
                todo="give the workers more memory, or train with a smaller batch_size: finished "
                "trials are kept",
            )
        messages = [run.state.message for run in runs if run.state and run.state.message]
        raise FlowsheetError(
            f"training {self.model} on the pool failed",
            where=", ".join(f"flow run {run.name}: {run.state_name}" for run in runs),
            todo=messages[0] if messages else "see the flow run's log in the Prefect page",
        )


def _is_memory_kill(run: FlowRun) -> bool:
    """Whether the worker reports that the run's process got SIGKILL, as the system sends it."""
    return bool(run.state and run.state.message and _SIGKILL.search(run.state.message))


def _looks_dead(run: FlowRun) -> bool:
    """Whether a run that a worker picked up was killed, or has not started for minutes."""
    if run.state_type not in (StateType.PENDING, StateType.RUNNING) or run.state is None:
        return False
    age = datetime.now(UTC) - run.state.timestamp
    return is_dead(run.id) or (is_unresponsive(run.id) and age.total_seconds() > _START_SECONDS)
