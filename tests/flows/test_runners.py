"""Task runners follow the compute choice, and failures in worker processes become errors."""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

import flows.runners
from flows.runners import WorkerProcesses, make_task_runner, was_killed
from flowsheet.config import ComputeConfig
from flowsheet.errors import FlowsheetError, Unreachable, UsageError


@pytest.fixture
def server_down(monkeypatch):
    """A Prefect server that does not answer, without any time to wait for it."""
    monkeypatch.setenv("PREFECT_API_URL", "http://ada:hush@127.0.0.1:1/api")
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")


def test_an_exit_in_a_worker_process_is_an_error_and_the_pool_stays_usable(server_down):
    with WorkerProcesses(max_workers=1) as runner:
        exiting = runner._executor.submit(functools.partial(sys.exit, 1))
        with pytest.raises(Unreachable, match="the Prefect server does not answer") as caught:
            exiting.result(timeout=120)
        assert caught.value.where == "http://***@127.0.0.1:1/api"
        assert runner._executor.submit(functools.partial(int, "7")).result(timeout=120) == 7


def test_new_processes_replace_a_killed_one(server_down):
    with WorkerProcesses(max_workers=2) as runner:
        worker = runner._executor.submit(functools.partial(os.getpid)).result(timeout=120)
        sleeping = runner._executor.submit(functools.partial(time.sleep, 5))
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(BrokenProcessPool):
            sleeping.result(timeout=60)
        runner.restart(1)
        assert runner.workers == 1
        assert runner._executor.submit(functools.partial(int, "7")).result(timeout=120) == 7


def test_processes_are_replaced_only_to_have_another_number_of_them(monkeypatch):
    with WorkerProcesses(max_workers=2) as runner:
        monkeypatch.setattr(flows.runners, "current_runner", lambda: runner)
        executor = runner._executor
        flows.runners.use_workers(2)
        assert (runner.workers, runner._executor) == (2, executor)
        flows.runners.use_workers(1)
        assert (runner.workers, runner._executor is executor) == (1, False)


def kind_of_duplicate() -> str:
    return type(make_task_runner(ComputeConfig(name="local", workers=2)).duplicate()).__name__


def test_a_worker_process_has_no_pool_of_its_own(server_down):
    assert kind_of_duplicate() == "WorkerProcesses"
    with make_task_runner(ComputeConfig(name="local", workers=1)) as runner:
        in_worker = runner._executor.submit(kind_of_duplicate).result(timeout=120)
    assert in_worker == "ThreadPoolTaskRunner"


def test_dask_does_not_wait_for_ever_for_workers_that_are_lost(monkeypatch):
    from distributed.scheduler import NoWorkerError

    from flows import local_dask

    monkeypatch.setitem(local_dask._SETTINGS, "distributed.scheduler.no-workers-timeout", "1s")
    threads = {"n_workers": 0, "processes": False, "dashboard_address": None}
    with local_dask.LocalDaskRunner(cluster_kwargs=threads) as runner:
        waiting = runner.client.submit(int, "7")
        with pytest.raises(NoWorkerError) as caught:
            waiting.result(timeout=60)
    assert was_killed(caught.value)


def test_an_error_of_a_process_that_goes_on_is_not_a_kill():
    assert was_killed(BrokenProcessPool())
    assert was_killed(type("OutOfMemoryError", (Exception,), {"__module__": "ray.exceptions"})())
    assert not was_killed(torch.OutOfMemoryError("CUDA out of memory"))
    assert not was_killed(MemoryError())


def test_the_exit_code_is_reported_while_the_server_answers(monkeypatch):
    monkeypatch.setattr(flows.runners, "wait_for_prefect", lambda: None)
    monkeypatch.setattr(flows.runners, "prefect_unreachable", lambda: None)
    with pytest.raises(FlowsheetError, match="with exit code 3"):
        flows.runners._call_without_exit(functools.partial(sys.exit, 3))
    assert flows.runners._call_without_exit(lambda: b"result") == b"result"


def test_a_run_does_not_fail_because_killed_dask_workers_take_their_time_to_end():
    pytest.importorskip("prefect_dask", reason="flowsheet[dask] is not installed")

    def fail_with(error: Exception) -> None:
        raise error

    def run(at_the_end: Exception, in_the_run: Exception | None = None) -> None:
        with make_task_runner(ComputeConfig(name="x", runner="dask")) as runner:
            runner._exit_stack.callback(fail_with, at_the_end)
            if in_the_run:
                raise in_the_run

    run(TimeoutError())
    with pytest.raises(ValueError, match="of the run"):
        run(TimeoutError(), ValueError("of the run"))
    with pytest.raises(OSError, match="no space"):
        run(OSError("no space"))


def test_a_runner_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "prefect_ray", None)
    with pytest.raises(UsageError, match=r"runner=ray is not installed") as caught:
        make_task_runner(ComputeConfig(name="x", runner="ray"))
    assert "flowsheet[ray]" in caught.value.todo


def test_a_dask_cluster_with_too_few_workers_is_refused():
    pytest.importorskip("prefect_dask", reason="flowsheet[dask] is not installed")
    two_together = ComputeConfig(name="x", runner="dask", workers=1, processes_per_training=2)
    with pytest.raises(UsageError, match="the Dask cluster has 1 workers"):
        make_task_runner(two_together)


@pytest.mark.parametrize(
    ("pool", "class_name"), [(None, "WorkerProcesses"), ("cpu", "ThreadPoolTaskRunner")]
)
def test_the_runner_follows_the_compute_choice(pool, class_name):
    assert type(make_task_runner(ComputeConfig(name="x", pool=pool))).__name__ == class_name


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "scheduler", "http://127.0.0.1:1"])
def test_a_dask_cluster_that_does_not_answer_is_named_before_a_run_begins(monkeypatch, address):
    pytest.importorskip("prefect_dask", reason="flowsheet[dask] is not installed")
    monkeypatch.setenv("FLOWSHEET_DASK_ADDRESS", address)
    monkeypatch.setattr(flows.runners, "_DASK_SECONDS", 0.2)
    with pytest.raises(UsageError, match="the Dask cluster does not answer") as caught:
        make_task_runner(ComputeConfig(name="x", runner="dask"))
    assert caught.value.where == f"FLOWSHEET_DASK_ADDRESS={address}"


def test_a_dask_cluster_without_workers_is_waited_for_with_a_warning(monkeypatch, capsys):
    pytest.importorskip("prefect_dask", reason="flowsheet[dask] is not installed")
    monkeypatch.setenv("FLOWSHEET_DASK_ADDRESS", "tcp://127.0.0.1:1")
    monkeypatch.setattr(flows.runners, "_count_dask_workers", lambda address: 0)
    make_task_runner(ComputeConfig(name="x", runner="dask"))
    assert "the Dask cluster has no workers; tasks wait" in capsys.readouterr().err
