"""Score and monitor large extracts in worker processes: batches of stays, each a stage of its own.

The command or flow that needs the batches finds them in the store.
"""

from __future__ import annotations

from typing import Literal

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.liveness import keep_alive
from flows.pieces import Pieces, Runner, build_pieces
from flows.records import flush_records
from flows.retries import RETRY_ON_OUTAGE
from flows.runners import make_task_runner
from flowsheet.cohort.extract import Extract
from flowsheet.config import ComputeConfig
from flowsheet.lifecycle.deployment import batch_scoring, monitoring
from flowsheet.lifecycle.deployment.batch_plan import BatchPlan
from flowsheet.lifecycle.experiment.extract_batches import StayRange, list_batches
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.state.locations import Location

Step = Literal["score", "monitor"]


@task(cache_policy=NO_CACHE, task_run_name="{step}-{number}", **RETRY_ON_OUTAGE)
def build_batch(step: Step, model: str, extract: Location, batch: StayRange, number: int) -> Stage:
    """Predict the risks of some stays, for monitoring with a profile of them.

    Args:
        step: what the batch is for.
        model: ``NAME/VERSION``.
        extract: folder of the cohort extract.
        batch: its stays.
        number: of the batch.
    """
    build = {"score": batch_scoring.score_batch, "monitor": monitoring.monitor_batch}[step]
    return build(model, extract, batch)


@flow(name="batches", flow_run_name="{step}-{plan.model}", validate_parameters=False)
def build_batches(step: Step, plan: BatchPlan, compute: ComputeConfig) -> None:
    """Build the batches of a plan.

    Prefect keeps the parameters of a flow run, so no stays are among them.

    Args:
        step: what the batches are for.
        plan: the model, the extract and the numbers of its batches.
        compute: how many workers there are, and what starts them.
    """
    choices = {"step": step, "model": plan.model, "extract": plan.extract}
    batches = list_batches(Extract.open(plan.extract))
    pieces = Pieces(
        task=build_batch,
        parameters=[
            {**choices, "batch": batches[number - 1], "number": number} for number in plan.numbers
        ],
        memory=plan.memory,
        step=step,
        name="batches of stays",
    )
    with keep_alive():
        build_pieces(pieces, compute)


def build_in_workers(step: Step, plan: BatchPlan, workers: int, runner: Runner) -> None:
    """Build the batches of a plan, where several processes are worth it.

    Args:
        step: what the batches are for.
        plan: the model, the extract and its batches.
        workers: the most processes.
        runner: what starts them.
    """
    workers = plan.count_workers(workers, runner)
    if workers == 1:
        return
    compute = ComputeConfig(name="workers", workers=workers, runner=runner)
    build = build_batches.with_options(task_runner=make_task_runner(compute))
    try:
        build(step, plan, compute)
    finally:
        flush_records()
