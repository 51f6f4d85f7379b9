"""A pool in which nobody works is not waited for; one that is busy is."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import StateType

import flows.pool as module
from flowsheet.compose import compose
from flowsheet.errors import FlowsheetError
from flowsheet.lifecycle.experiment.folds import FoldSpec
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.experiment.train import FoldData

RETRAIN, INGEST = uuid4(), uuid4()


class Server:
    """What a Prefect server would say of the pool."""

    def __init__(self) -> None:
        self.working: list[UUID] = []
        """The flows of the runs that the pool's workers are at."""
        self.cancelled: list[UUID] = []
        self.runs: dict[UUID, SimpleNamespace] = {}

    @contextlib.contextmanager
    def __call__(self, sync_client):
        yield self

    def read_flows(self, flow_filter):
        return [SimpleNamespace(id=RETRAIN)]

    def read_flow_runs(self, flow_run_filter, work_pool_filter=None):
        if work_pool_filter:
            return [SimpleNamespace(id=uuid4(), flow_id=flow) for flow in self.working]
        asked = flow_run_filter.id.any_ if flow_run_filter.id else []
        return [SimpleNamespace(**vars(run)) for run in self.runs.values() if run.id in asked]

    def read_task_runs(self, flow_run_filter, task_run_filter):
        return []

    def set_flow_run_state(self, run, state, force):
        if state.is_cancelled():
            self.cancelled.append(run)
        else:
            self.runs[run].state_type = state.type

    def submit(self, deployment, parameters, tags, timeout):
        made = a_run(StateType.RUNNING)
        self.runs[made.id] = made
        return made


@pytest.fixture
def server(monkeypatch):
    made = Server()
    monkeypatch.setattr(module, "get_client", made)
    monkeypatch.setattr(module, "run_deployment", made.submit)
    monkeypatch.setattr(module.train, "is_trained", lambda key: False)
    return made


@pytest.fixture
def job():
    stage = Stage(kind="extract", key="0" * 64, path="nowhere", reused=False, seconds=1.0)
    each = FoldSpec(
        config=compose("demo", ["compute=cpu_pool"]),
        data=FoldData(extract=stage, windows=stage, split=stage),
    )
    return module._Job(each, "lstm", "0" * 32, "1" * 64, print)


def a_run(kind):
    state = SimpleNamespace(timestamp=datetime.now(UTC), name=kind.value, message=None)
    return SimpleNamespace(
        id=uuid4(), name="otter", state_type=kind, state_name=kind.value, state=state
    )


def an_hour_later(job):
    job.worked -= 3600


def dead(monkeypatch, *runs):
    monkeypatch.setattr(module, "is_dead", lambda run: run in runs)
    monkeypatch.setattr(module, "is_unresponsive", lambda run: False)


def test_all_that_a_lost_machine_had_in_hand_is_begun_again(server, job, monkeypatch):
    monkeypatch.setenv("FLOWSHEET_OPTUNA_URL", "postgresql://nowhere")
    dead(monkeypatch)
    job.look()
    lost = set(server.runs)
    assert len(lost) == job.wanted == 2
    dead(monkeypatch, *lost)
    for _ in range(5):
        job.look()
    assert {server.runs[run].state_type for run in lost} == {StateType.CRASHED}
    assert {server.runs[run].state_type for run in set(server.runs) - lost} == {StateType.RUNNING}
    assert len(server.runs) == 4


def test_a_training_that_kills_its_workers_does_not_do_so_for_ever(server, job, monkeypatch):
    def for_ever():
        while True:
            job.look()
            dead(monkeypatch, *server.runs)

    with pytest.raises(FlowsheetError, match="training lstm on the pool failed"):
        for_ever()
    assert len(server.runs) == 4


def test_a_training_that_failed_is_told(server, job, monkeypatch):
    dead(monkeypatch)
    job.look()
    for run in server.runs.values():
        run.state_type, run.state.message = StateType.FAILED, "no such column"
    with pytest.raises(FlowsheetError) as caught:
        job.look()
    assert caught.value.todo == "no such column"


def test_a_training_that_nobody_takes_up_is_given_up_and_leaves_the_queue(server, job):
    server.working = [RETRAIN]  # which waits for this very training
    run = a_run(StateType.SCHEDULED)
    job._must_be_taken_up([run])
    an_hour_later(job)
    with pytest.raises(
        FlowsheetError, match="no worker of the pool cpu has taken up the training of lstm"
    ) as caught:
        job._must_be_taken_up([run])
    assert "10 minutes" in caught.value.what
    assert "--limit 2" in caught.value.todo
    assert server.cancelled == [run.id]


def test_a_training_that_failed_is_no_sign_of_work(server, job):
    an_hour_later(job)
    with pytest.raises(FlowsheetError, match="no worker"):
        job._must_be_taken_up([a_run(StateType.SCHEDULED), a_run(StateType.FAILED)])


@pytest.mark.parametrize(
    ("working", "kinds"),
    [
        ([INGEST], [StateType.SCHEDULED]),
        ([RETRAIN, INGEST], [StateType.SCHEDULED]),
        ([RETRAIN], [StateType.SCHEDULED, StateType.RUNNING]),
        ([RETRAIN], [StateType.PENDING]),
        ([RETRAIN], [StateType.COMPLETED]),
    ],
)
def test_a_pool_that_is_busy_is_waited_for(server, job, working, kinds):
    server.working = working
    an_hour_later(job)
    job._must_be_taken_up([a_run(kind) for kind in kinds])
    job._must_be_taken_up([a_run(StateType.SCHEDULED)])  # the time begins anew
    assert server.cancelled == []
