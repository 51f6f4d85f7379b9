"""What runs the tasks that train, as the compute choice says."""

from __future__ import annotations

import os
from typing import Any

from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flowsheet.config import ComputeConfig
from flowsheet.errors import UsageError
from flowsheet.lifecycle.process import die_with

_WAITING = 32
"""Threads that wait for a pool, a model in a round each."""


def runner(compute: ComputeConfig) -> TaskRunner[Any]:
    """A task runner with as many worker processes as the choice allows, or with threads that wait for a pool.

    ``FLOWSHEET_DASK_ADDRESS`` and ``FLOWSHEET_RAY_ADDRESS`` name a cluster; without them one is made for the run.

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
    return ProcessPoolTaskRunner(max_workers=compute.workers, initializer=die_with, initargs=(os.getpid(),))


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
