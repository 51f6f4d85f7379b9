"""Training on a work pool: killed runs are replaced, and an idle pool is not waited for."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectHTTPStatusError

import flows.pool
from flows.trainings import _warn_of_single_tuners
from flowsheet.compose import compose
from flowsheet.errors import FlowsheetError, UsageError
from flowsheet.lifecycle.experiment.folds import FoldSpec
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.experiment.train import FoldData, shared_study_url

RETRAIN_FLOW = uuid4()
INGEST_FLOW = uuid4()


class FakeServer:
    """Answers like a Prefect server with one pool."""

    def __init__(self) -> None:
        self.running_flows: list[UUID] = []
        """Flows of the runs that the pool's workers are executing."""
        self.cancelled: list[UUID] = []
        self.pool_name = "cpu"
        self.parameters: dict[UUID, dict] = {}
        self.runs: dict[UUID, SimpleNamespace] = {}

    @contextlib.contextmanager
    def __call__(self, sync_client):
        yield self

    def read_flows(self, flow_filter):
        return [SimpleNamespace(id=RETRAIN_FLOW)]

    def read_flow_runs(self, flow_run_filter, work_pool_filter=None):
        if work_pool_filter:
            assert work_pool_filter.name.any_ == [self.pool_name]
            return [SimpleNamespace(id=uuid4(), flow_id=flow) for flow in self.running_flows]
        run_ids = flow_run_filter.id.any_ if flow_run_filter.id else []
        return [SimpleNamespace(**vars(run)) for run in self.runs.values() if run.id in run_ids]

    def read_task_runs(self, flow_run_filter, task_run_filter):
        return []

    def set_flow_run_state(self, run_id, state, force):
        if state.is_cancelled():
            self.cancelled.append(run_id)
        else:
            self.runs[run_id].state_type = state.type

    def read_deployment_by_name(self, name):
        assert name == "train/cpu"
        return SimpleNamespace(work_pool_name=self.pool_name)

    def submit(self, deployment, parameters, tags, timeout):
        run = make_run(StateType.RUNNING)
        self.parameters[run.id] = parameters
        self.runs[run.id] = run
        return run


@pytest.fixture
def server(monkeypatch):
    fake_server = FakeServer()
    monkeypatch.setattr(flows.pool, "get_client", fake_server)
    monkeypatch.setattr(flows.pool, "run_deployment", fake_server.submit)
    monkeypatch.setattr(flows.pool.train, "is_trained", lambda key: False)
    return fake_server


@pytest.fixture
def training():
    stage = Stage(kind="extract", key="0" * 64, path="missing", reused=False, seconds=1.0)
    fold = FoldSpec(
        config=compose("demo", ["compute=cpu_pool"]),
        data=FoldData(extract=stage, windows=stage, split=stage),
    )
    return flows.pool._PoolTraining(fold, "lstm", "0" * 32, "1" * 64, print)


def refuse_parameters(deployment, parameters, tags, timeout):
    """What Prefect's server answers where a deployment has the schema of another release."""
    request = httpx.Request("POST", "http://127.0.0.1:4200/api/deployments/x/create_flow_run")
    response = httpx.Response(409, request=request, json={"detail": "'past' was unexpected"})
    raise PrefectHTTPStatusError("409 Conflict", request=request, response=response)


def test_a_deployment_of_another_release_is_reported_in_words(server, training, monkeypatch):
    monkeypatch.setattr(flows.pool, "run_deployment", refuse_parameters)
    with pytest.raises(UsageError, match="another release has made it") as error:
        training.poll()
    assert "deploy --all" in error.value.todo


def make_run(state_type):
    state = SimpleNamespace(timestamp=datetime.now(UTC), name=state_type.value, message=None)
    return SimpleNamespace(
        id=uuid4(), name="otter", state_type=state_type, state_name=state_type.value, state=state
    )


def let_an_hour_pass(training):
    training.last_activity -= 3600


def set_dead_runs(monkeypatch, *run_ids):
    monkeypatch.setattr(flows.pool, "is_dead", lambda run_id: run_id in run_ids)
    monkeypatch.setattr(flows.pool, "is_unresponsive", lambda run_id: False)


def test_all_runs_of_a_lost_machine_are_submitted_again(server, training, monkeypatch):
    monkeypatch.setenv("FLOWSHEET_OPTUNA_URL", "postgresql://nowhere")
    set_dead_runs(monkeypatch)
    training.poll()
    lost = set(server.runs)
    assert len(lost) == training.run_count == 2
    set_dead_runs(monkeypatch, *lost)
    for _ in range(5):
        training.poll()
    assert {server.runs[run].state_type for run in lost} == {StateType.CRASHED}
    assert {server.runs[run].state_type for run in set(server.runs) - lost} == {StateType.RUNNING}
    assert len(server.runs) == 4


def test_a_training_that_kills_its_workers_is_given_up(server, training, monkeypatch):
    def poll_until_it_fails():
        while True:
            training.poll()
            set_dead_runs(monkeypatch, *server.runs)

    with pytest.raises(FlowsheetError, match="training lstm on the pool failed"):
        poll_until_it_fails()
    assert len(server.runs) == 4


def test_the_error_of_a_failed_training_is_reported(server, training, monkeypatch):
    set_dead_runs(monkeypatch)
    training.poll()
    for run in server.runs.values():
        run.state_type = StateType.FAILED
        run.state.message = "no such column"
    with pytest.raises(FlowsheetError) as caught:
        training.poll()
    assert caught.value.todo == "no such column"


def test_a_training_that_no_worker_picks_up_is_cancelled(server, training):
    server.running_flows = [RETRAIN_FLOW]  # it waits for this very training
    run = make_run(StateType.SCHEDULED)
    training._check_picked_up([run])
    let_an_hour_pass(training)
    message = "no worker of the pool cpu has picked up the training of lstm"
    with pytest.raises(FlowsheetError, match=message) as caught:
        training._check_picked_up([run])
    assert "10 minutes" in caught.value.what
    assert "--limit 2" in caught.value.todo
    assert server.cancelled == [run.id]


def test_a_failed_run_is_no_sign_of_a_working_pool(server, training):
    let_an_hour_pass(training)
    with pytest.raises(FlowsheetError, match="no worker"):
        training._check_picked_up([make_run(StateType.SCHEDULED), make_run(StateType.FAILED)])


@pytest.mark.parametrize(
    ("running_flows", "state_types"),
    [
        ([INGEST_FLOW], [StateType.SCHEDULED]),
        ([RETRAIN_FLOW, INGEST_FLOW], [StateType.SCHEDULED]),
        ([RETRAIN_FLOW], [StateType.SCHEDULED, StateType.RUNNING]),
        ([RETRAIN_FLOW], [StateType.PENDING]),
        ([RETRAIN_FLOW], [StateType.COMPLETED]),
    ],
)
def test_a_busy_pool_is_waited_for(server, training, running_flows, state_types):
    server.running_flows = running_flows
    let_an_hour_pass(training)
    training._check_picked_up([make_run(state_type) for state_type in state_types])
    training._check_picked_up([make_run(StateType.SCHEDULED)])  # the waiting time starts again
    assert server.cancelled == []


def test_a_pool_with_a_name_of_its_own_is_asked_for_its_work(server, training):
    server.pool_name = "cpu-kubernetes"
    server.running_flows = [INGEST_FLOW]
    let_an_hour_pass(training)
    training._check_picked_up([make_run(StateType.SCHEDULED)])
    assert server.cancelled == []


@pytest.mark.parametrize(
    "message",
    [
        "Flow run process exited with non-zero status code -9.",
        "Process exited with status code: -9. Process exited due to a SIGKILL signal.",
        "Flow run infrastructure exited with non-zero status code 137.",
    ],
)
def test_a_training_that_ran_out_of_memory_is_submitted_again_alone(
    server, training, monkeypatch, message
):
    set_dead_runs(monkeypatch)
    lines = []
    training.progress = lines.append

    def kill_all():
        for run in server.runs.values():
            run.state_type, run.state.message = StateType.CRASHED, message

    training.poll()
    kill_all()
    training.poll()
    first, second = server.parameters.values()
    assert "alone" not in first
    assert second["alone"] is True
    assert any("memory ran out" in line and "alone on its machine" in line for line in lines)
    for _ in range(2):
        kill_all()
        training.poll()
    kill_all()
    with pytest.raises(FlowsheetError, match="memory ran out") as caught:
        training.poll()
    assert "more memory" in caught.value.todo
    assert len(server.runs) == 4


def test_another_crash_is_no_sign_of_missing_memory(server, training, monkeypatch):
    set_dead_runs(monkeypatch)
    training.poll()
    for run in server.runs.values():
        run.state_type = StateType.CRASHED
        run.state.message = "Flow run process exited with non-zero status code -15."
    training.poll()
    assert ["alone" in parameters for parameters in server.parameters.values()] == [False, False]


def test_workers_that_share_an_object_store_tune_each_model_alone(training, monkeypatch):
    monkeypatch.setenv("FLOWSHEET_OPTUNA_URL", "postgresql://nowhere")
    compute = training.fold.config.compute
    lines = []
    _warn_of_single_tuners(compute, lines.append)
    assert not lines
    monkeypatch.setenv("FLOWSHEET_STORE", "s3://hospital/store")
    assert training.run_count == 1
    assert shared_study_url() is None
    _warn_of_single_tuners(compute, lines.append)
    (line,) = lines
    assert f"instead of compute.workers={compute.workers}" in line
