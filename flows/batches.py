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
from flowsheet.config import ComputeConfig
from flowsheet.lifecycle.deployment import batch_scoring, monitoring
from flowsheet.lifecycle.experiment.extract_batches import BatchPlan, StayRange
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.runtime.resources import usable_memory
from flowsheet.state.locations import Location

Runner = Literal["process", "dask", "ray"]


@task(cache_policy=NO_CACHE, task_run_name="score-{batch.first}", **RETRY_ON_OUTAGE)
def score_batch(model: str, extract: Location, batch: StayRange) -> Stage:
    """Predict the risks of some stays.

    Args:
        model: ``NAME/VERSION``.
        extract: folder of the cohort extract.
        batch: its stays.
    """
    return batch_scoring.score_batch(model, extract, batch)


@task(cache_policy=NO_CACHE, task_run_name="monitor-{batch.first}", **RETRY_ON_OUTAGE)
def monitor_batch(model: str, extract: Location, batch: StayRange) -> Stage:
    """Profile some stays, and predict their risks.

    Args:
        model: ``NAME/VERSION``.
        extract: folder of the cohort extract.
        batch: its stays.
    """
    return monitoring.monitor_batch(model, extract, batch)


@flow(name="batches", flow_run_name="{step}-{plan.model}", validate_parameters=False)
def build_batches(step: str, plan: BatchPlan, compute: ComputeConfig) -> None:
    """Build the batches of a plan.

    Args:
        step: ``score`` or ``monitor``.
        plan: the model, the extract and its batches.
        compute: how many workers there are, and what starts them.
    """
    tasks: dict[str, Task[..., Any]] = {"score": score_batch, "monitor": monitor_batch}
    pieces = Pieces(
        task=tasks[step],
        parameters=[
            {"model": plan.model, "extract": plan.extract, "batch": batch} for batch in plan.batches
        ],
        memory=plan.memory,
        step=step,
        name="batches of stays",
    )
    with keep_alive():
        build_pieces(pieces, compute)


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
    try:
        build_batches.with_options(task_runner=make_task_runner(compute))(step, plan, compute)
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
    if workers > 1:
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
    if workers > 1:
        choice = monitoring.load_monitoring_config(config)
        plan = monitoring.plan_batches(model, extract, choice)
        build_in_workers("monitor", plan, workers, runner)
