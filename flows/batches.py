"""Score and monitor large extracts in worker processes: batches of stays, each a stage of its own.

The command or flow that needs the batches finds them in the store.
"""

from __future__ import annotations

from typing import Any, Literal

from prefect import Task, flow, task
from prefect.cache_policies import NO_CACHE

from flows.liveness import keep_alive
from flows.pieces import MIN_PIECES, Pieces, build_pieces
from flows.records import flush_records
from flows.retries import RETRY_ON_OUTAGE
from flows.runners import make_task_runner
from flowsheet.cohort.extract import Extract
from flowsheet.config import ComputeConfig
from flowsheet.errors import UsageError
from flowsheet.lifecycle.deployment import batch_scoring, monitoring
from flowsheet.lifecycle.experiment.extract_batches import BatchPlan, StayRange, list_batches
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.runtime.resources import usable_memory
from flowsheet.state.locations import Location

Runner = Literal["process", "dask", "ray"]


@task(cache_policy=NO_CACHE, task_run_name="score-{number}", **RETRY_ON_OUTAGE)
def score_batch(model: str, extract: Location, batch: StayRange, number: int) -> Stage:
    """Predict the risks of some stays.

    Args:
        model: ``NAME/VERSION``.
        extract: folder of the cohort extract.
        batch: its stays.
        number: of the batch in this flow run.
    """
    return batch_scoring.score_batch(model, extract, batch)


@task(cache_policy=NO_CACHE, task_run_name="monitor-{number}", **RETRY_ON_OUTAGE)
def monitor_batch(model: str, extract: Location, batch: StayRange, number: int) -> Stage:
    """Profile some stays, and predict their risks.

    Args:
        model: ``NAME/VERSION``.
        extract: folder of the cohort extract.
        batch: its stays.
        number: of the batch in this flow run.
    """
    return monitoring.monitor_batch(model, extract, batch)


@flow(name="batches", flow_run_name="{step}-{model}", validate_parameters=False)
def build_batches(
    step: str, model: str, extract: Location, memory: int, compute: ComputeConfig
) -> None:
    """Build the batches of an extract.

    Prefect keeps the parameters of a flow run, so no stays are among them.

    Args:
        step: ``score`` or ``monitor``.
        model: ``NAME/VERSION``.
        extract: folder of the cohort extract.
        memory: bytes of the process that predicts the largest batch.
        compute: how many workers there are, and what starts them.
    """
    tasks: dict[str, Task[..., Any]] = {"score": score_batch, "monitor": monitor_batch}
    choices = {"model": model, "extract": extract}
    batches = list_batches(Extract.open(extract))
    pieces = Pieces(
        task=tasks[step],
        parameters=[
            {**choices, "batch": batch, "number": number} for number, batch in enumerate(batches, 1)
        ],
        memory=memory,
        step=step,
        name="batches of stays",
    )
    with keep_alive():
        build_pieces(pieces, compute)


def has_workers(workers: int, runner: Runner) -> bool:
    """Whether there are worker processes.

    Raises:
        UsageError: one process is asked for, and something else to start it.
    """
    if workers == 1 and runner != "process":
        raise UsageError(
            f"runner={runner} with one worker: all batches would be predicted in this process",
            todo="choose 2 workers or more",
        )
    return workers > 1


def build_in_workers(step: str, plan: BatchPlan, workers: int, runner: Runner) -> None:
    """Build the batches of a plan, where several processes are worth it.

    Args:
        step: ``score`` or ``monitor``.
        plan: the model, the extract and its batches.
        workers: the most processes.
        runner: what starts them.
    """
    if runner == "process":
        workers = min(workers, usable_memory() // plan.memory)
    if workers <= 1 or len(plan.batches) < MIN_PIECES:
        return
    compute = ComputeConfig(name="workers", workers=workers, runner=runner)
    build = build_batches.with_options(task_runner=make_task_runner(compute))
    try:
        build(step, plan.model, plan.extract, plan.memory, compute)
    finally:
        flush_records()


def score_in_workers(model: str, extract: Location, workers: int, runner: Runner) -> None:
    """Predict the batches of an extract that :func:`batch_scoring.score` then finds.

    Args:
        model: ``NAME@ALIAS`` or ``NAME/VERSION``.
        extract: folder of the cohort extract.
        workers: the most processes.
        runner: what starts them.
    """
    if has_workers(workers, runner):
        plan = batch_scoring.plan_batches(model, extract)
        build_in_workers("score", plan, workers, runner)


def monitor_in_workers(
    model: str, extract: Location, config: str, workers: int, runner: Runner
) -> None:
    """Profile the batches of an extract that :func:`monitoring.monitor` then finds.

    Args:
        model: ``NAME@ALIAS`` or ``NAME/VERSION``.
        extract: folder of the cohort extract.
        config: a choice in conf/monitoring.
        workers: the most processes.
        runner: what starts them.
    """
    if has_workers(workers, runner):
        choice = monitoring.load_monitoring_config(config)
        plan = monitoring.plan_batches(model, extract, choice)
        build_in_workers("monitor", plan, workers, runner)
