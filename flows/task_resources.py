"""What a task needs of a worker, so that a cluster gives no worker more than it has room for.

Ray counts processors, graphics cards and memory of its nodes by itself. Dask counts only what its
workers declare: ``dask worker --resources "MEMORY=12e9 GPU=1"``; it kills a worker that takes more
than ``--memory-limit``, so no task is sent to workers that all have less, and a task counts on its
worker's limit. The processes of a flow run are as many as its machine has memory for, and a work
pool's workers check their own.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from flows.runners import current_runner
from flowsheet.config import ComputeConfig
from flowsheet.state.capacity import format_bytes, refuse

MEMORY = "MEMORY"
"""Of a Dask worker, in bytes."""
GPU = "GPU"
_RAY_RESOURCES = {"num_cpus": "CPU", "num_gpus": GPU}
"""What a Ray node calls what its tasks ask for."""


def declare_needs(
    compute: ComputeConfig, content: str, memory: int, beside: int = 0
) -> AbstractContextManager[None]:
    """Tasks that are submitted in the block say what they need.

    Args:
        compute: the kind of workers, and the threads and the device of a task.
        content: what such a task is, for a message.
        memory: bytes of its process.
        beside: bytes of another process, which may run beside a Dask worker meanwhile. It counts
            for ``MEMORY``; Dask's ``--memory-limit`` is for the worker alone.

    Raises:
        CheckFailed: no worker has all of it; the tasks would wait for ever.
    """
    if compute.pool is None and compute.runner == "dask":
        return _declare_to_dask(compute, content, memory, beside)
    if compute.pool is None and compute.runner == "ray":
        return _declare_to_ray(compute, content, memory)
    return contextlib.nullcontext()


@contextlib.contextmanager
def _declare_to_dask(
    compute: ComputeConfig, content: str, memory: int, beside: int
) -> Iterator[None]:
    from dask.base import annotate

    runner: Any = current_runner()
    workers = list(runner.client.scheduler_info()["workers"].values())
    needs: dict[str, float] = {}
    with_gpu = [worker for worker in workers if GPU in worker["resources"]]
    if compute.device == "cuda" and with_gpu:
        workers = with_gpu
        needs[GPU] = 1
    limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
    if limits and len(limits) == len(workers):
        memory = _limit(content, memory, max(limits), "--memory-limit of the Dask workers")
    declared = [worker["resources"] for worker in workers]
    if any(MEMORY in resources for resources in declared):
        largest = max(resources.get(MEMORY, 0) for resources in declared)
        needs[MEMORY] = _limit(content, memory + beside, largest, f"{MEMORY} of the Dask workers")
    with annotate(resources=needs) if needs else contextlib.nullcontext():
        yield


def dask_memory() -> int | None:
    """Bytes that a task on this Dask worker may take; None: there is no such worker or limit."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return None
    limit = worker.memory_manager.memory_limit
    return limit and limit // worker.state.nthreads


@contextlib.contextmanager
def _declare_to_ray(compute: ComputeConfig, content: str, memory: int) -> Iterator[None]:
    import ray
    from prefect_ray.context import remote_options

    needs: dict[str, float] = {"num_cpus": compute.threads}
    if compute.device == "cuda":
        needs["num_gpus"] = 1
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    largest = max((node.get("memory", 0) for node in nodes if _has_room(node, needs)), default=None)
    if largest is None:
        _refuse_ray(content, compute)
    else:
        memory = _limit(content, memory, largest, "the memory of the Ray nodes")
    with remote_options(**needs, memory=memory):
        yield


def _has_room(node: Mapping[str, float], needs: Mapping[str, float]) -> bool:
    """Whether a Ray node has the processors and graphics cards of a task."""
    return all(node.get(_RAY_RESOURCES[name], 0) >= number for name, number in needs.items())


def _refuse_ray(content: str, compute: ComputeConfig) -> None:
    card = " and a graphics card" if compute.device == "cuda" else ""
    refuse(
        f"{content}: {compute.threads} processors{card}, and no Ray node has them",
        where=f"compute.threads={compute.threads}, compute.device={compute.device}",
        todo="start such a node, or choose fewer threads or another device",
    )


def _limit(content: str, memory: int, largest: float, where: str) -> int:
    """The bytes to ask for: no more than the largest worker has, if the user wants to begin."""
    if memory <= largest:
        return memory
    refuse(
        f"{content}: about {format_bytes(memory)} of memory, and no worker has more than "
        f"{format_bytes(largest)}",
        where=where,
        todo="start a worker with more memory, or ask for less data",
    )
    return int(largest)
