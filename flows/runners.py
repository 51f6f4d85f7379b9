"""Task runners for the tasks that train models, as the compute choice asks."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self

from prefect.context import FlowRunContext
from prefect.futures import PrefectConcurrentFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.engine import collect_task_run_inputs_sync

from flows.retries import prefect_unreachable, wait_for_prefect
from flowsheet.config import ComputeConfig
from flowsheet.errors import FlowsheetError, UsageError, first_line
from flowsheet.lifecycle.runtime.processes import exit_with_parent, without_sigint
from flowsheet.progress import protect_output, report

_POOL_WAITERS = 32
"""Threads that wait for a work pool, each for one model in one fold."""
_DASK_SECONDS = 30.0
"""In which a Dask cluster has to answer."""


def make_task_runner(compute: ComputeConfig) -> TaskRunner[Any]:
    """A task runner with ``compute.workers`` processes; for a work pool, threads that wait for it.

    With ``compute.runner`` dask or ray, ``FLOWSHEET_DASK_ADDRESS`` and ``FLOWSHEET_RAY_ADDRESS``
    name a cluster; without them a local cluster is started for the run.

    Raises:
        UsageError: the runner's package is not installed, the Dask cluster does not answer, or it
            has fewer workers than the processes that train a model together.
    """
    if compute.pool:
        return ThreadPoolTaskRunner(max_workers=_POOL_WAITERS)
    try:
        if compute.runner == "dask":
            return _dask_runner(compute)
        if compute.runner == "ray":
            return _ray_runner(compute)
    except ImportError as error:
        raise UsageError(
            f"compute.runner={compute.runner} is not installed: no module {error.name}",
            todo=f"install flowsheet[{compute.runner}]",
        ) from None
    return WorkerProcesses(
        max_workers=compute.workers, initializer=_begin_worker, initargs=(os.getpid(),)
    )


def _begin_worker(parent_pid: int) -> None:
    WorkerProcesses.is_in_worker = True
    exit_with_parent(parent_pid)


class WorkerProcesses(ProcessPoolTaskRunner):
    """Prefect's process pool, in which an exit of Prefect's engine raises an error.

    When the engine fails in a worker process, mostly because the server does not answer, it calls
    ``exit``. That ends the thread that returns results, and the run would wait forever.
    """

    is_in_worker: ClassVar[bool] = False
    """Whether this process is one of such a pool."""

    def duplicate(self) -> Any:
        """A runner for another flow run; in a worker one of threads, without processes.

        Prefect enters it with each task of a worker. The semaphores of an unused pool
        would be left behind, with a warning, where the worker is killed.
        """
        if self.is_in_worker:
            return ThreadPoolTaskRunner(max_workers=1)
        return super().duplicate()

    def __enter__(self) -> Self:
        super().__enter__()
        executor: Any = self._executor
        submit = executor.submit

        def submit_without_sigint(*arguments: Any, **keywords: Any) -> Any:
            with without_sigint():  # the first calls start the processes
                return submit(_call_without_exit, *arguments, **keywords)

        executor.submit = submit_without_sigint
        return self

    def submit(
        self,
        task: Any,
        parameters: dict[str, Any],
        wait_for: Iterable[Any] | None = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> PrefectConcurrentFuture[Any]:
        """Submit a task whose upstream tasks have ended: their states may be in ``wait_for``.

        Prefect itself takes only futures there, whose states it would wait for.
        """
        upstream = collect_task_run_inputs_sync(list(wait_for or []))
        first_parameter = next(iter(parameters))
        edges = {**(dependencies or {}), first_parameter: upstream}
        return super().submit(task, parameters, dependencies=edges)

    @property
    def workers(self) -> int:
        """The most processes."""
        return self._max_workers

    def restart(self, workers: int) -> None:
        """Replace all processes by that many new ones, after one of them was killed."""
        self.__exit__(None, None, None)
        self._max_workers = workers
        self.__enter__()

    def cancel_all(self) -> None:
        """Wait for active trainings; when the run is interrupted, kill them instead.

        Their studies can be resumed later.
        """
        if not isinstance(sys.exc_info()[1], Exception | None):
            for process in multiprocessing.active_children():
                process.kill()
        super().cancel_all()


_KILLED = {
    ("concurrent", "BrokenProcessPool"),
    ("distributed", "KilledWorker"),  # after Dask has tried several workers
    ("distributed", "NoWorkerError"),  # all are lost
    ("ray", "WorkerCrashedError"),
    ("ray", "OutOfMemoryError"),  # torch has an error of this name, too
    ("ray", "NodeDiedError"),
}
"""Package and name of the errors of a task whose process was killed."""


def was_killed(error: BaseException) -> bool:
    """Whether a task failed because the process that ran it was killed."""
    bases = type(error).__mro__
    return any((base.__module__.partition(".")[0], base.__name__) in _KILLED for base in bases)


def current_runner() -> TaskRunner[Any]:
    """The task runner of this flow run."""
    context = FlowRunContext.get()
    assert context
    return context.task_runner


def restart_workers(workers: int) -> None:
    """Replace the worker processes of this flow run by that many."""
    _worker_processes().restart(workers)


def use_workers(workers: int) -> None:
    """Let this flow run have that many worker processes, and keep those that it has if it does."""
    runner = _worker_processes()
    if runner.workers != workers:
        runner.restart(workers)


def _worker_processes() -> WorkerProcesses:
    runner = current_runner()
    assert isinstance(runner, WorkerProcesses)
    return runner


def _call_without_exit(call: Callable[[], bytes]) -> bytes:
    """The result of a call in a worker process; if the call exits the process, an error.

    Raises:
        Unreachable: the Prefect server does not answer.
        FlowsheetError: Prefect exited for another reason.
    """
    protect_output()
    wait_for_prefect()
    try:
        return call()
    except SystemExit as exit_error:
        raise prefect_unreachable() or FlowsheetError(
            f"Prefect ended the process of a training with exit code {exit_error.code}",
            todo="see the log of the run in the Prefect page",
        ) from None


def _dask_runner(compute: ComputeConfig) -> TaskRunner[Any]:
    from prefect_dask import DaskTaskRunner

    from flows.local_dask import LocalDaskRunner
    from flowsheet.lifecycle.experiment.dask_members import check_workers

    size = compute.processes_per_training
    if address := os.environ.get("FLOWSHEET_DASK_ADDRESS"):
        workers = _count_dask_workers(address)
        if size > 1:
            check_workers(workers, size)
        if not workers:
            report("warning: the Dask cluster has no workers; tasks wait until one has come")
        return DaskTaskRunner(address=address)  # type: ignore[no-any-return]
    check_workers(compute.workers, size)
    local_cluster = {
        "n_workers": compute.workers,
        "threads_per_worker": 1,  # trainings in threads of one process would share a random state
        "processes": True,
        "host": "127.0.0.1",
        "dashboard_address": None,
        "silence_logs": "ERROR",
    }
    return LocalDaskRunner(cluster_kwargs=local_cluster)


def _count_dask_workers(address: str) -> int:
    from distributed import Client

    try:
        with Client(address, timeout=_DASK_SECONDS) as client:  # type: ignore[no-untyped-call]
            return len(client.scheduler_info()["workers"])
    except (OSError, ValueError) as error:  # no scheme or port
        raise UsageError(
            f"the Dask cluster does not answer: {first_line(error)}",
            where=f"FLOWSHEET_DASK_ADDRESS={address}",
            todo="start it, or correct the address",
        ) from None


def _ray_runner(compute: ComputeConfig) -> TaskRunner[Any]:
    from prefect_ray import RayTaskRunner

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address := os.environ.get("FLOWSHEET_RAY_ADDRESS"):
        return RayTaskRunner(address=address)  # type: ignore[no-any-return]
    local_cluster = {"num_cpus": compute.workers * compute.threads, "include_dashboard": False}
    return RayTaskRunner(init_kwargs=local_cluster)  # type: ignore[no-any-return]
