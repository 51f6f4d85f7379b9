"""Stages that a later step of a flow run is made of, built in the run's worker processes.

The step itself finds them in the store by their keys, and builds those that are not there. So what
it makes does not depend on the number of workers, and a killed worker costs time only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from prefect import Task
from prefect.futures import PrefectFuture

from flows.liveness import PROCESS_KILLED, mark_tasks_crashed
from flows.records import progress_logger
from flows.runners import restart_workers, use_workers, was_killed
from flows.task_resources import declare_needs
from flowsheet.config import ComputeConfig
from flowsheet.errors import UsageError
from flowsheet.state.memory import usable_memory

Runner = Literal["process", "dask", "ray"]


class Pieces(NamedTuple):
    """What is built in pieces."""

    task: Task[..., Any]
    """It builds one of them."""
    parameters: Sequence[dict[str, Any]]
    """Of the task, for each piece."""
    memory: int
    """Bytes that a process needs for a piece."""
    step: str
    """The step that they are for, as it is called in the log."""
    name: str
    """Of the pieces, for people."""


def has_workers(workers: int, runner: Runner) -> bool:
    """Whether there are worker processes.

    Raises:
        UsageError: one process is asked for, and something else to start it.
    """
    if workers == 1 and runner != "process":
        raise UsageError(
            f"runner={runner} with one worker: all batches would be built in this process",
            todo="choose 2 workers or more",
        )
    return workers > 1


def has_room(compute: ComputeConfig, memory: int) -> bool:
    """Whether several processes of so many bytes fit: what a cluster has room for, it tells."""
    return compute.runner != "process" or usable_memory() >= 2 * memory


def build_pieces(pieces: Pieces, compute: ComputeConfig, wait_for: Sequence[Any] = ()) -> None:
    """Build the pieces in this flow run's workers, but for those whose process is killed.

    Of worker processes on this machine there are no more than it has memory for.

    Args:
        pieces: what to build.
        compute: how many workers there are, and what starts them.
        wait_for: the tasks whose results they need.
    """
    progress = progress_logger(pieces.step)
    workers = compute.workers
    if compute.runner == "process":
        workers = min(workers, max(1, usable_memory() // pieces.memory))
        use_workers(workers)
    progress(f"{len(pieces.parameters)} {pieces.name}, in {workers} processes")
    without_gpu = compute.model_copy(update={"device": "cpu"})
    with declare_needs(without_gpu, f"one of the {pieces.name}", pieces.memory):
        futures = [
            pieces.task.submit(**parameters, return_state=False, wait_for=wait_for)
            for parameters in pieces.parameters
        ]
    killed = [future.task_run_id for future in futures if _was_killed(future)]
    if killed:
        progress(
            f"a process of {pieces.step} was killed, most likely because memory ran out; what is "
            "left is built one at a time"
        )
        if compute.runner == "process":
            restart_workers(workers)
        mark_tasks_crashed(killed, PROCESS_KILLED)


def _was_killed(future: PrefectFuture[Any]) -> bool:
    """Wait for a task; whether its process was killed. Raises any other error of it."""
    try:
        future.result()
    except Exception as error:
        if not was_killed(error):
            raise
        return True
    return False
