"""Batches of stays go to workers where that pays, and no server is started where it does not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows import batches
from flows.pieces import Pieces, has_workers
from flowsheet.cli import cli
from flowsheet.config import ComputeConfig
from flowsheet.errors import UsageError
from flowsheet.lifecycle.deployment import batch_plan, batch_scoring, monitoring
from flowsheet.lifecycle.deployment.batch_plan import BatchPlan
from flowsheet.lifecycle.experiment.extract_batches import StayRange
from flowsheet.lifecycle.runtime import local_servers

GB = 10**9


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch):
    """Ask for workers; returns the choices with which batches are built."""
    monkeypatch.setattr(batch_plan, "usable_memory", lambda: 3 * GB)

    def call(n_batches: int, workers: int, memory: int = GB, runner: Any = "process"):
        built: list[ComputeConfig] = []

        def with_options(task_runner: Any) -> Any:
            return lambda *parameters: built.append(parameters[-1])

        monkeypatch.setattr(batches.build_batches, "with_options", with_options)
        monkeypatch.setattr(batches, "make_task_runner", lambda compute: None)
        plan = BatchPlan("a/1", Path("x"), range(n_batches), memory)
        batches.build_in_workers("score", plan, workers, runner)
        return [(compute.workers, compute.runner) for compute in built]

    return call


def test_workers_are_as_many_as_are_asked_for_and_fit(build):
    assert build(3, workers=2) == [(2, "process")]
    assert build(9, workers=8) == [(3, "process")]
    assert build(9, workers=8, runner="dask") == [(8, "dask")]


@pytest.mark.parametrize("choice", [{"n_batches": 2}, {"workers": 1}, {"memory": 2 * GB}])
def test_what_does_not_pay_or_fit_is_left_to_one_process(build, choice):
    assert build(**{"n_batches": 9, "workers": 2, **choice}) == []


@pytest.mark.parametrize(("command", "module"), [("score", batch_scoring), ("monitor", monitoring)])
def test_the_command_has_its_batches_built_first_where_any_are_missing(
    monkeypatch, tmp_path, command, module
):
    calls: list[Any] = []
    plans = [BatchPlan("a/1", tmp_path, [1, 2, 5], 1), BatchPlan("a/1", tmp_path, [], 1)]

    @contextlib.contextmanager
    def prefect_api(**_: Any) -> Iterator[None]:
        calls.append("server")
        yield

    def stop(*arguments: Any, **keywords: Any) -> None:
        calls.append("then")
        raise SystemExit(0)

    monkeypatch.setattr(module, "plan_batches", lambda *choices: plans.pop(0))
    monkeypatch.setattr(local_servers, "prefect_api", prefect_api)
    monkeypatch.setattr(batches, "build_in_workers", lambda *call: calls.append(call))
    monkeypatch.setattr(module, command, stop)
    arguments = [command, "a/1", str(tmp_path)]
    plan, workers = plans[0], ["--workers", "4", "--runner", "dask"]
    CliRunner().invoke(cli, [*arguments, *workers])
    assert calls == ["server", (command, plan, 4, "dask"), "then"]
    calls.clear()
    CliRunner().invoke(cli, [*arguments, *workers])
    CliRunner().invoke(cli, arguments)
    assert calls == ["then", "then"]
    assert plans == []


@pytest.mark.parametrize("command", ["score", "monitor"])
def test_a_runner_without_workers_is_refused(tmp_path, command):
    result = CliRunner().invoke(cli, [command, "a/1", str(tmp_path), "--runner", "dask"])
    assert result.exit_code == 2
    assert "--runner dask takes --workers 2 or more" in result.output
    with pytest.raises(UsageError, match="runner=ray with one worker"):
        has_workers(1, "ray")


def test_prefect_keeps_no_ids_of_stays(monkeypatch, tmp_path):
    submitted: list[Pieces] = []
    ids = [StayRange(90_001, 90_007), StayRange(90_011, 90_017), StayRange(90_021, 90_027)]
    monkeypatch.setattr(batches, "build_pieces", lambda pieces, compute: submitted.append(pieces))
    monkeypatch.setattr(batches, "list_batches", lambda extract: ids)
    monkeypatch.setattr(batches.Extract, "open", lambda location: None)
    plan = BatchPlan("a/1", tmp_path, [1, 3], GB)
    parameters = ("score", plan, ComputeConfig(name="two", workers=2))
    batches.build_batches.fn(*parameters)
    assert "9000" not in repr(parameters)
    (pieces,) = submitted
    assert [piece["batch"] for piece in pieces.parameters] == [ids[0], ids[2]]
    names = [batches.build_batch.task_run_name.format(**piece) for piece in pieces.parameters]
    assert names == ["score-1", "score-3"]
