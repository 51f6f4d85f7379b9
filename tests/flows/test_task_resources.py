"""Tasks tell a cluster what they need, and are not sent where no worker has room for them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flows import task_resources
from flows.task_resources import dask_memory, declare_needs
from flowsheet.config import ComputeConfig
from flowsheet.errors import CheckFailed
from flowsheet.state.memory import limited_memory, usable_memory

GB = 10**9
DASK = ComputeConfig(name="dask", runner="dask", workers=2)
RAY = ComputeConfig(name="ray", runner="ray", workers=2, threads=2)


@contextmanager
def dask_runner(*workers: dict[str, Any]) -> Iterator[None]:
    """A flow run on a cluster with these workers."""
    described = [{"memory_limit": 0, "resources": {}, **worker} for worker in workers]
    info = {"workers": {f"tcp://{i}": worker for i, worker in enumerate(described)}}
    runner = SimpleNamespace(client=SimpleNamespace(scheduler_info=lambda: info))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_resources, "current_runner", lambda: runner)
        yield


def read_dask_needs(
    compute: ComputeConfig, memory: int, *workers: dict[str, Any], beside: int = 0
) -> Any:
    """The resources that a task is annotated with."""
    dask = pytest.importorskip("dask", reason="flowsheet[dask] is not installed")
    with dask_runner(*workers), declare_needs(compute, "a training", memory, beside):
        return dask.get_annotations().get("resources")


def test_a_task_asks_for_what_the_dask_workers_declare():
    with_memory = {"resources": {"MEMORY": 12e9}}
    with_both = {"resources": {"MEMORY": 12e9, "GPU": 1}}
    on_gpu = DASK.model_copy(update={"device": "cuda"})
    assert read_dask_needs(DASK, 3 * GB, {}) is None
    assert read_dask_needs(DASK, 3 * GB) is None  # no worker has come yet
    assert read_dask_needs(DASK, 3 * GB, with_memory, {}) == {"MEMORY": 3 * GB}
    assert read_dask_needs(on_gpu, 3 * GB, with_both) == {"MEMORY": 3 * GB, "GPU": 1}
    assert read_dask_needs(on_gpu, 3 * GB, {}) is None
    assert read_dask_needs(on_gpu, 3 * GB, with_both, {"resources": {"MEMORY": 64e9}}) is not None


@pytest.mark.parametrize(
    "workers",
    [
        [{"resources": {"MEMORY": 2e9}}, {"resources": {"MEMORY": 1e9}}],
        [{"memory_limit": 2 * GB}, {"memory_limit": GB}],
        [{"resources": {"MEMORY": 2e9, "GPU": 1}}, {"resources": {"MEMORY": 64e9}}],
    ],
)
def test_a_task_that_no_dask_worker_has_room_for_is_refused(workers, monkeypatch):
    on_gpu = DASK.model_copy(update={"device": "cuda"})
    with pytest.raises(CheckFailed, match=r"3\.0 GB of memory, and no worker has more than 2\.0"):
        read_dask_needs(on_gpu, 3 * GB, *workers)
    monkeypatch.setenv("FLOWSHEET_LIMITS", "warn")
    read_dask_needs(on_gpu, 3 * GB, *workers)


def test_a_process_beside_the_worker_counts_for_its_memory_and_not_for_its_limit():
    worker = {"memory_limit": 3 * GB, "resources": {"MEMORY": 5e9}}
    assert read_dask_needs(DASK, 3 * GB, worker, beside=2 * GB) == {"MEMORY": 5 * GB}
    with pytest.raises(CheckFailed, match=r"6\.0 GB of memory, and no worker has more than 5\.0"):
        read_dask_needs(DASK, 3 * GB, worker, beside=3 * GB)


def test_a_worker_without_a_limit_has_room():
    assert read_dask_needs(DASK, 3 * GB, {"memory_limit": GB}, {"memory_limit": 0}) is None


@pytest.fixture
def ray_options(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of tasks that are submitted to Ray: nodes of 8 GB, and of 4 GB with a GPU."""
    options: dict[str, Any] = {}

    @contextmanager
    def remote_options(**needs: Any):
        options.update(needs)
        yield

    nodes = [
        {"Alive": True, "Resources": {"CPU": 4, "memory": 8 * GB}},
        {"Alive": True, "Resources": {"CPU": 2, "GPU": 1, "memory": 4 * GB}},
        {"Alive": False, "Resources": {"CPU": 64, "GPU": 8, "memory": 64 * GB}},
    ]
    modules = {
        "ray": {"nodes": lambda: nodes},
        "prefect_ray": {},
        "prefect_ray.context": {"remote_options": remote_options},
    }
    for name, members in modules.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return options


def test_a_task_tells_ray_its_processors_and_memory(ray_options):
    with declare_needs(RAY, "a training", 3 * GB):
        assert ray_options == {"num_cpus": 2, "memory": 3 * GB}
    with declare_needs(RAY.model_copy(update={"device": "cuda"}), "a training", 3 * GB):
        assert ray_options["num_gpus"] == 1


@pytest.mark.parametrize(
    ("changes", "memory", "reason"),
    [
        ({}, 9 * GB, r"no worker has more than 8\.0 GB"),
        ({"device": "cuda"}, 5 * GB, r"no worker has more than 4\.0 GB"),  # where the GPU is
        ({"threads": 8}, GB, "8 processors, and no Ray node has them"),
        ({"threads": 4, "device": "cuda"}, GB, "4 processors and a graphics card, and no Ray node"),
    ],
)
def test_a_task_that_no_ray_node_has_room_for_is_refused(
    ray_options, monkeypatch, changes, memory, reason
):
    compute = RAY.model_copy(update=changes)
    with pytest.raises(CheckFailed, match=reason):
        declare_needs(compute, "a training", memory).__enter__()
    assert not ray_options
    monkeypatch.setenv("FLOWSHEET_LIMITS", "warn")
    with declare_needs(compute, "a training", memory):
        assert ray_options["num_cpus"] == compute.threads


def test_processes_and_pools_are_told_nothing():
    for compute in (ComputeConfig(name="two", workers=2), ComputeConfig(name="p", pool="cpu")):
        with declare_needs(compute, "a training", 10**15):
            pass


def test_a_task_counts_on_the_limit_of_its_worker():
    assert dask_memory() is None
    with limited_memory(GB):
        assert usable_memory() == round(0.9 * GB)
    with limited_memory(None):
        assert usable_memory() > GB


def test_dask_heeds_the_annotation_of_a_submitted_task(monkeypatch):
    """``prefect_dask`` passes no resources of its own; Dask takes those of ``dask.annotate``."""
    distributed = pytest.importorskip("distributed", reason="flowsheet[dask] is not installed")
    from prefect_dask.client import PrefectDaskClient

    local = {"n_workers": 1, "processes": False, "dashboard_address": None}
    with (
        distributed.LocalCluster(**local, resources={"MEMORY": 2e9}) as cluster,
        PrefectDaskClient(cluster, set_as_default=False) as client,
    ):
        runner = SimpleNamespace(client=client)
        monkeypatch.setattr(task_resources, "current_runner", lambda: runner)
        with declare_needs(DASK, "a training", GB):
            future = client.submit(dask_memory)
        assert future.result(timeout=60) == cluster.workers[0].memory_manager.memory_limit // (
            cluster.workers[0].state.nthreads
        )
        task = cluster.scheduler.tasks[future.key]
        assert task.resource_restrictions == {"MEMORY": GB}
