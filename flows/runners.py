"""What runs the tasks that train, as the compute choice says."""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
from collections.abc import Callable
from typing import Any, Self

from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.retries import prefect_unreachable, wait_for_prefect
from flowsheet.config import ComputeConfig
from flowsheet.errors import FlowsheetError, UsageError
from flowsheet.lifecycle.runtime.processes import exit_with_parent

_WAITING = 32
"""Threads that wait for a pool, a model in a round each."""


def runner(compute: ComputeConfig) -> TaskRunner[Any]:
    """A task runner with as many worker processes as the choice allows, or with threads that wait
    for a pool.

    ``FLOWSHEET_DASK_ADDRESS`` and ``FLOWSHEET_RAY_ADDRESS`` name a cluster; without them one is
    made for the run.

    Raises:
        UsageError: the runner is not installed.
    """
    if compute.pool:
        return ThreadPoolTaskRunner(max_workers=_WAITING)
    try:
        if compute.runner == "dask":
            return _dask(compute.workers)
        if compute.runner == "ray":
            return _ray(compute.workers)
    except ImportError as error:
        raise UsageError(
            f"compute.runner={compute.runner} is not installed: no module {error.name}",
            todo=f"install flowsheet[{compute.runner}]",
        ) from None
    return Processes(
        max_workers=compute.workers, initializer=exit_with_parent, initargs=(os.getpid(),)
    )


class Processes(ProcessPoolTaskRunner):
    """Prefect's own, whose processes say why they give up.

    Where Prefect's engine fails in a worker process, most often because its server does not answer,
    it calls ``exit``; that ends the thread which hands results over, and the run would wait for
    ever.
    """

    def __enter__(self) -> Self:
        super().__enter__()
        executor: Any = self._executor
        executor.submit = functools.partial(executor.submit, _answered)
        return self

    def cancel_all(self) -> None:
        """Wait for trainings under way; but when the run is told to stop, end them: their studies can go on later."""
        if not isinstance(sys.exc_info()[1], Exception | None):
            for process in multiprocessing.active_children():
                process.kill()
        super().cancel_all()


def _answered(call: Callable[[], bytes]) -> bytes:
    """What a call in a worker process gives; a call that ends the process is an error like others.

    Raises:
        Unreachable: the Prefect server does not answer.
        FlowsheetError: Prefect gave up for another reason.
    """
    wait_for_prefect()
    try:
        return call()
    except SystemExit as end:
        raise prefect_unreachable() or FlowsheetError(
            f"Prefect ended a training's process with code {end.code}",
            todo="see the run in the Prefect page",
        ) from None


def _dask(workers: int) -> TaskRunner[Any]:
    from prefect_dask import DaskTaskRunner

    if address := os.environ.get("FLOWSHEET_DASK_ADDRESS"):
        return DaskTaskRunner(address=address)  # type: ignore[no-any-return]
    cluster = {  # one task a process: models that train side by side in one process would share one random state
        "n_workers": workers,
        "threads_per_worker": 1,
        "processes": True,
        "host": "127.0.0.1",
        "dashboard_address": None,
        "silence_logs": "ERROR",
    }
    return DaskTaskRunner(cluster_kwargs=cluster)  # type: ignore[no-any-return]


def _ray(workers: int) -> TaskRunner[Any]:
    from prefect_ray import RayTaskRunner

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address := os.environ.get("FLOWSHEET_RAY_ADDRESS"):
        return RayTaskRunner(address=address)  # type: ignore[no-any-return]
    return RayTaskRunner(init_kwargs={"num_cpus": workers, "include_dashboard": False})  # type: ignore[no-any-return]
