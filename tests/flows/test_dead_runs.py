"""Runs whose process has ended without a word are marked; crashed retrainings start again."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.states import Crashed, Pending, Running

import flows.dead_runs
import flows.liveness
from flows.dead_runs import retry_crashed_runs
from flows.liveness import (
    LOCKS_LABEL,
    _end_path,
    _lock_path,
    keep_alive,
    mark_dead_runs_crashed,
)
from flowsheet.errors import UsageError
from flowsheet.lifecycle.runtime.dead_runs import DEAD_RUN_MINUTES, dead_run_minutes
from flowsheet.state.locks import exclusive_lock

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("prefect_server")]


@flow(name="retrain")
def retrain() -> None: ...


@pytest.fixture
def client():
    with get_client(sync_client=True) as opened:
        yield opened
        for run in opened.read_flow_runs():
            if run.state_type in (StateType.PENDING, StateType.RUNNING):
                opened.set_flow_run_state(run.id, Crashed(), force=True)


def start_run(client: SyncPrefectClient, state=Running, **labels: str) -> UUID:
    """A run without a process."""
    run = client.create_flow_run(retrain, state=Pending())
    if labels:
        client.update_flow_run_labels(run.id, labels)
    client.set_flow_run_state(run.id, state(), force=True)
    return run.id


def let_pass(monkeypatch: pytest.MonkeyPatch, minutes: float) -> None:
    """Let this test's runs be that old."""
    clock = SimpleNamespace(time=lambda: time.time() + minutes * 60)
    monkeypatch.setattr(flows.liveness, "time", clock)


def get_states(client: SyncPrefectClient, *run_ids: UUID) -> list[StateType]:
    return [client.read_flow_run(run_id).state_type for run_id in run_ids]


def test_a_run_without_a_lock_and_a_sign_of_life_is_dead_after_some_minutes(client, monkeypatch):
    silent = start_run(client)
    never_began = start_run(client, state=Pending)
    of_another_folder = start_run(client, **{LOCKS_LABEL: "another folder"})
    let_pass(monkeypatch, 14)
    assert mark_dead_runs_crashed(15) == []
    let_pass(monkeypatch, 16)
    assert {run.id for run in mark_dead_runs_crashed(15)} == {silent, never_began}
    assert get_states(client, silent, never_began) == [StateType.CRASHED] * 2
    assert get_states(client, of_another_folder) == [StateType.RUNNING]
    message = client.read_flow_run(silent).state.message
    assert message.startswith("no process has held its lock for 15 minutes")


def test_a_run_that_holds_its_lock_is_alive_however_long_it_runs(client, monkeypatch):
    run = start_run(client)
    let_pass(monkeypatch, 500)
    with exclusive_lock(_lock_path(run)):
        assert mark_dead_runs_crashed(15) == []
    assert [dead.id for dead in mark_dead_runs_crashed(15)] == [run]  # the file was left: killed
    assert client.read_flow_run(run).state.message == "its process was killed"


def test_a_long_run_that_is_about_to_report_its_end_is_alive(client, monkeypatch):
    run = start_run(client)
    let_pass(monkeypatch, 500)
    _lock_path(run).parent.mkdir(parents=True, exist_ok=True)
    ended = time.time() + 490 * 60
    _end_path(run).touch()
    os.utime(_end_path(run), (ended, ended))
    assert mark_dead_runs_crashed(15) == []
    let_pass(monkeypatch, 506)
    assert [dead.id for dead in mark_dead_runs_crashed(15)] == [run]


def test_a_flow_marks_the_dead_runs_of_all_flows_when_it_starts(client, monkeypatch):
    silent = start_run(client)
    let_pass(monkeypatch, 20)

    @flow(name="scoring")
    def scoring() -> tuple[UUID, bool]:
        with keep_alive():
            run_id = FlowRunContext.get().flow_run.id
            return run_id, _lock_path(run_id).exists()

    run_id, had_lock = scoring()
    assert get_states(client, silent) == [StateType.CRASHED]
    assert had_lock
    assert not _lock_path(run_id).exists()
    assert client.read_flow_run(run_id).labels[LOCKS_LABEL]


def test_the_limit_is_an_option(client, monkeypatch):
    run = start_run(client)
    let_pass(monkeypatch, 20)
    monkeypatch.setenv(DEAD_RUN_MINUTES, "30")
    assert mark_dead_runs_crashed() == []
    monkeypatch.setenv(DEAD_RUN_MINUTES, "10")
    assert [dead.id for dead in mark_dead_runs_crashed()] == [run]
    for text in ("-1", "soon", "inf", "nan"):
        monkeypatch.setenv(DEAD_RUN_MINUTES, text)
        with pytest.raises(UsageError, match="is no number of minutes"):
            dead_run_minutes()


def crash(client: SyncPrefectClient, deployment_id: UUID) -> UUID:
    run = client.create_flow_run_from_deployment(deployment_id)
    client.set_flow_run_state(run.id, Running(), force=True)
    client.set_flow_run_state(run.id, Crashed(), force=True)
    return run.id


def test_a_crashed_retraining_is_scheduled_again_but_not_for_ever(client, monkeypatch):
    flow_id = client.create_flow(retrain)
    deployment_id = client.create_deployment(flow_id, "weekly")
    superseded = crash(client, deployment_id)
    latest = crash(client, deployment_id)
    with monkeypatch.context() as context:
        context.setattr(flows.dead_runs, "_RETRY_HOURS", 0)
        assert retry_crashed_runs() == []
    assert [run.id for run in retry_crashed_runs()] == [latest]
    run = client.read_flow_run(latest)
    assert (run.state_type, run.state.name) == (StateType.SCHEDULED, "AwaitingRetry")
    assert run.state.message == "attempt 2 of 3, after a crash"
    assert get_states(client, superseded) == [StateType.CRASHED]
    for attempt in (2, 3):
        client.set_flow_run_state(latest, Running(), force=True)
        client.set_flow_run_state(latest, Crashed(), force=True)
        assert bool(retry_crashed_runs()) is (attempt < 3)
