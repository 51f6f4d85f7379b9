"""A pool in which nobody works is not waited for; one that is busy is."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import StateType

import flows.pool as module
from flowsheet.compose import compose
from flowsheet.errors import FlowsheetError
from flowsheet.lifecycle.rounds import Round
from flowsheet.lifecycle.stage import Stage
from flowsheet.lifecycle.train import Data

RETRAIN, INGEST = uuid4(), uuid4()


class Server:
    """What a Prefect server would say of the pool."""

    def __init__(self) -> None:
        self.working: list[UUID] = []
        """The flows of the runs that the pool's workers are at."""
        self.cancelled: list[UUID] = []

    @contextlib.contextmanager
    def __call__(self, sync_client):
        yield self

    def read_flows(self, flow_filter):
        return [SimpleNamespace(id=RETRAIN)]

    def read_flow_runs(self, work_pool_filter, flow_run_filter):
        return [SimpleNamespace(id=uuid4(), flow_id=flow) for flow in self.working]

    def set_flow_run_state(self, run, state, force):
        assert state.is_cancelled()
        self.cancelled.append(run)


@pytest.fixture
def server(monkeypatch):
    made = Server()
    monkeypatch.setattr(module, "get_client", made)
    return made


@pytest.fixture
def job():
    stage = Stage(kind="extract", key="0" * 64, path="nowhere", reused=False, seconds=1.0)
    each = Round(config=compose("demo", ["compute=cpu_pool"]), data=Data(extract=stage, windows=stage, split=stage))
    return module._Job(each, "lstm", "0" * 32, "1" * 64, print)


def a_run(kind):
    return SimpleNamespace(id=uuid4(), name="otter", state_type=kind)


def an_hour_later(job):
    job.worked -= 3600


def test_a_training_that_nobody_takes_up_is_given_up_and_leaves_the_queue(server, job):
    server.working = [RETRAIN]  # which waits for this very training
    run = a_run(StateType.SCHEDULED)
    job._must_be_taken_up([run])
    an_hour_later(job)
    with pytest.raises(FlowsheetError, match="no worker of the pool cpu has taken up the training of lstm") as caught:
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
