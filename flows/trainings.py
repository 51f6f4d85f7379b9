"""Train every model in every fold: on a work pool, or in as many processes as memory allows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple
from uuid import UUID

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed

from flows.liveness import PROCESS_KILLED, mark_tasks_crashed
from flows.records import progress_logger
from flows.retries import RETRY_ON_OUTAGE
from flows.runners import restart_workers, use_workers, was_killed
from flows.shared_store import check_shared_store
from flows.task_resources import dask_memory, declare_needs
from flowsheet.config import ComputeConfig
from flowsheet.errors import CheckFailed, FlowsheetError, first_line
from flowsheet.lifecycle.experiment import record, train
from flowsheet.lifecycle.experiment.capacity import LESS_DATA
from flowsheet.lifecycle.experiment.folds import ExperimentPlan, FoldSpec
from flowsheet.lifecycle.experiment.model_runs import start_fold_run
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.experiment.training_memory import (
    estimate_member_memory,
    estimate_training_memory,
)
from flowsheet.lifecycle.runtime.resources import check_memory
from flowsheet.progress import ProgressLine, report
from flowsheet.state.memory import limited_memory, usable_memory
from flowsheet.state.store import STORE
from flowsheet.tuning.storage import OPTUNA_URL
from flowsheet.typing import Progress


def complete(stage: Stage, name: str) -> Stage | State[Stage]:
    """Report a finished stage; a reused one gets the state "Reused" in the Prefect page."""
    progress = progress_logger(name)
    if not stage.reused:
        progress(ProgressLine(f"done in {stage.seconds:.1f} s", "stage", 1, 1))
        return stage
    text = f"reused (built earlier in {stage.seconds:.1f} s)"
    progress(ProgressLine(text, "stage", 1, 1))
    return Completed(name="Reused", message=f"built earlier in {stage.seconds:.1f} s", data=stage)


def begin(name: str) -> None:
    """Show that a stage or a training has begun."""
    report(ProgressLine("", "stage", 0, 1), name)


def get_stage(state: State[Any]) -> Stage:
    """The stage that a task has returned; raises the task's error."""
    stage = state.result()
    assert isinstance(stage, Stage)
    return stage


@task(cache_policy=NO_CACHE, task_run_name="train-{model}{fold.label}", **RETRY_ON_OUTAGE)
def train_model(fold: FoldSpec, model: str, run_id: str) -> Stage | State[Stage]:
    """Tune and fit one model in one fold; its trials are recorded below the MLflow run."""
    name = f"{model}{fold.label}"
    begin(name)
    check_shared_store(fold.data.extract, fold.data.windows, fold.data.split)
    with limited_memory(dask_memory()), record.trial_recorder(fold, run_id) as on_trial:
        stage = train.train_model(fold.config, model, fold.data, on_trial, progress_logger(name))
    return complete(stage, name)


@task(cache_policy=NO_CACHE, task_run_name="train-{model}{fold.label}")
def train_model_on_pool(fold: FoldSpec, model: str, run_id: str) -> Stage | State[Stage]:
    """Train one model in one fold on the work pool that ``compute.pool`` names."""
    from flows.pool import train_on_pool

    name = f"{model}{fold.label}"
    begin(name)
    return complete(train_on_pool(fold, model, run_id, progress_logger(name)), name)


Upstream = Sequence["State[Any] | PrefectFuture[Any]"]
"""Tasks whose results a task needs: Prefect's page draws them as edges."""


class TrainingResults(NamedTuple):
    """What the trainings of an experiment came to."""

    trained: dict[str, dict[str, Stage]]
    """{fold name: {model: stage}}."""
    excluded: dict[str, str]
    """{model: reason} for the models that do not apply to the task."""
    tasks: Upstream
    """The tasks that trained the models."""


class Training(NamedTuple):
    """Arguments of the tasks that train."""

    fold: FoldSpec
    model: str
    run_id: str

    @property
    def name(self) -> str:
        """The model with the label of its fold."""
        return f"{self.model}{self.fold.label}"

    def is_finished(self) -> bool:
        """Whether the trained model is in the store."""
        key = train.training_key(self.fold.config, self.model, self.fold.data)
        return train.is_trained(key)


class WorkerKilled(FlowsheetError):
    """A process of a cluster was killed while it trained (exit code 1)."""


class _Outcome(NamedTuple):
    """The result of a training: its stage, or why the model does not apply to the task."""

    result: Stage | CheckFailed
    task: State[Any] | PrefectFuture[Any]


def train_all(plan: ExperimentPlan, run_id: str, data: Upstream) -> TrainingResults:
    """Train every model in every fold.

    Trained models in the store are looked up in this process. The others are trained in worker
    processes, because threads that train at the same time would share one random state.

    Returns:
        The trained models. A model that does not apply in one fold is excluded from all.

    Raises:
        CheckFailed: no model applies to the task.
    """
    trainings = [
        Training(fold, model, start_fold_run(plan, fold, model, run_id))
        for fold in plan.all_folds
        for model in _order_models(fold)
    ]
    trained: dict[str, dict[str, Stage]] = {fold.name: {} for fold in plan.all_folds}
    excluded: dict[str, str] = {}
    tasks = []
    for training, outcome in zip(trainings, _run_trainings(trainings, data), strict=True):
        if isinstance(outcome.result, CheckFailed):
            excluded[training.model] = outcome.result.what
        else:
            trained[training.fold.name][training.model] = outcome.result
            tasks.append(outcome.task)
    for stages in trained.values():
        for model in excluded:
            stages.pop(model, None)
    if not trained[plan.first_fold.name]:
        raise CheckFailed(
            "none of the models could be trained",
            where=", ".join(excluded),
            todo="; ".join(excluded.values()),
        )
    return TrainingResults(trained, excluded, tasks)


def _order_models(fold: FoldSpec) -> list[str]:
    """The models of a fold; those that are made of others come after these."""
    config = fold.config
    return sorted(config.models, key=lambda model: bool(train.list_members(config, model)))


def _run_trainings(trainings: Sequence[Training], data: Upstream) -> list[_Outcome]:
    """The stage of each training, or why its model does not apply to the task.

    When a worker process is killed, the trainings that have not ended start again, one at a time:
    most often the system ran out of memory.

    Raises:
        FlowsheetError: a process was killed again.
    """
    outcomes: dict[str, _Outcome] = {}
    _warn_of_single_tuners(trainings[0].fold.config.compute, progress_logger("train"))
    workers = _limit_workers(trainings)
    try:
        _collect_outcomes(trainings, data, outcomes, workers)
    except BrokenProcessPool:
        progress_logger("train")(
            "a training process was killed, most likely because memory ran out; starting again "
            "with one training at a time: finished trials are kept"
        )
        restart_workers(1)
        try:
            _collect_outcomes(trainings, data, outcomes, 1)
        except BrokenProcessPool as error:
            unfinished = [t.name for t in trainings if t.name not in outcomes]
            raise FlowsheetError(
                "a training process was killed again, most likely because memory ran out",
                where=f"one of {', '.join(unfinished)}",
                todo="start again on a machine with more memory, or with a smaller batch_size: "
                "finished trials are kept",
            ) from error
    return [outcomes[training.name] for training in trainings]


def _collect_outcomes(
    trainings: Sequence[Training], data: Upstream, outcomes: dict[str, _Outcome], workers: int
) -> None:
    """Add the outcomes of the trainings that have none yet.

    Args:
        trainings: all trainings.
        data: the tasks that prepared the data.
        outcomes: {training: outcome}, which is added to.
        workers: number of processes.

    Raises:
        BrokenProcessPool: a worker process was killed, which ends all of them.
    """
    waiting = [training for training in trainings if training.name not in outcomes]
    futures = {
        training.name: _submit(training, data) for training in waiting if not training.is_finished()
    }
    text = f"{len(futures)} models to train, in {workers} processes"
    progress_logger("train")(ProgressLine(text if futures else "", "models", 0, len(futures)))
    killed: dict[UUID, BrokenProcessPool] = {}
    for training in waiting:
        try:
            outcomes[training.name] = _get_outcome(training, futures.get(training.name), data)
        except BrokenProcessPool as error:
            killed[futures[training.name].task_run_id] = error
    if killed:
        mark_tasks_crashed(list(killed), PROCESS_KILLED)
        raise killed.popitem()[1]


def _submit(training: Training, data: Upstream) -> PrefectFuture[Any]:
    config = training.fold.config
    compute, content = config.compute, f"training {training.name}"
    kinds = [model.kind for model in config.models.values()]
    beside = estimate_member_memory(training.fold.data, compute, kinds)
    with declare_needs(compute, content, _estimate_memory(training), beside):
        return _training_task(training).submit(*training, return_state=False, wait_for=data)


def _get_outcome(training: Training, future: PrefectFuture[Any] | None, data: Upstream) -> _Outcome:
    if future is None:  # it is in the store
        look_up = train_model.with_options(tags=_tags(training))
        state = look_up(*training, return_state=True, wait_for=data)
        return _Outcome(_result(state), state)
    try:
        return _Outcome(_result(future), future)
    except WorkerKilled:
        mark_tasks_crashed([future.task_run_id], PROCESS_KILLED)
        raise


def _result(task: State[Any] | PrefectFuture[Any]) -> Stage | CheckFailed:
    try:
        stage = task.result()
    except CheckFailed as error:
        return error
    except BrokenProcessPool:
        raise
    except Exception as error:
        if not was_killed(error):
            raise
        raise WorkerKilled(
            "a worker of the cluster was killed while it trained, most likely because memory ran "
            "out",
            where=first_line(error),
            todo="give the workers more memory (dask worker --memory-limit), and start again: "
            "finished trials are kept",
        ) from error
    assert isinstance(stage, Stage)
    return stage


def _warn_of_single_tuners(compute: ComputeConfig, progress: Progress) -> None:
    """Say that workers do not tune a model together although they have a database for it."""
    wants_shared_study = compute.pool and compute.workers > 1 and os.environ.get(OPTUNA_URL)
    if wants_shared_study and not train.shared_study_url():
        progress(
            f"warning: each model is tuned by one worker instead of compute.workers="
            f"{compute.workers}: workers that share an object store ({STORE}) instead of a folder "
            f"cannot share trials, and {OPTUNA_URL} is not used"
        )


def _limit_workers(trainings: Sequence[Training]) -> int:
    """Use no more worker processes than the memory of this machine holds; returns their number.

    Raises:
        CheckFailed: it does not hold one training.
    """
    compute = trainings[0].fold.config.compute
    if compute.pool or compute.runner != "process":
        return compute.workers
    needed = max(_estimate_memory(training) for training in trainings)
    check_memory("a training", needed, LESS_DATA)
    workers = min(compute.workers, max(1, usable_memory() // needed))
    if workers < compute.workers:
        progress_logger("train")(
            f"warning: {workers} instead of compute.workers={compute.workers}: a training needs "
            f"about {needed / 1e9:.1f} GB of the {usable_memory() / 1e9:.1f} GB that are usable"
        )
    use_workers(workers)
    return workers


def _estimate_memory(training: Training) -> int:
    config = training.fold.config
    compute = config.compute
    if compute.runner != "process" and compute.inputs == "auto":  # the worker has other memory
        compute = compute.model_copy(update={"inputs": "shards"})
    kinds = [config.models[training.model].kind]
    return estimate_training_memory(training.fold.data, compute, kinds)


def _training_task(training: Training) -> Task[..., Any]:
    compute = training.fold.config.compute
    if compute.pool:  # the worker applies the time limit: waiting for a worker does not count
        return train_model_on_pool.with_options(tags=_tags(training))
    minutes = compute.training_minutes
    return train_model.with_options(tags=_tags(training), timeout_seconds=minutes and minutes * 60)


def _tags(training: Training) -> list[str]:
    return [f"model: {training.model}"]
