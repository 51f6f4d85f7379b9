"""What a worker is told, what it refuses, and what is tried again."""

from __future__ import annotations

import json

import pytest
import requests
import sqlalchemy.exc
from mlflow.exceptions import MlflowException

from flows.retries import is_outage
from flows.runners import runner
from flows.training import check_shared_store
from flowsheet.compose import choices, compose
from flowsheet.config import ComputeConfig
from flowsheet.errors import CheckFailed, Unreachable, UsageError
from flowsheet.lifecycle.experiment.folds import FoldSpec
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.experiment.train import FoldData
from flowsheet.state.store import Store

PARAMETERS_AT_MOST = 512 * 1024  # Prefect's limit, in bytes


def made(kind, root, there=True):
    path = root / kind / "0123456789abcdef"
    if there:
        path.mkdir(parents=True)
    return Stage(kind=kind, key="0" * 64, path=str(path), reused=False, seconds=1.0)


def a_round(root, there=True):
    stages = {kind: made(kind, root, there) for kind in ("extract", "windows", "split")}
    models = f"models=[{','.join(choices('model'))}]"
    return FoldSpec(config=compose("demo", [models]), data=FoldData(**stages))


def test_the_parameters_are_small_and_come_back_the_same():
    each = a_round(Store.open().root)
    text = json.dumps(each.model_dump(mode="json"))
    assert len(text) < PARAMETERS_AT_MOST / 10
    assert FoldSpec.model_validate(json.loads(text)) == each
    check_shared_store(each)


def test_a_worker_with_another_folder_refuses(tmp_path):
    with pytest.raises(UsageError, match="does not see the extract") as caught:
        check_shared_store(a_round(tmp_path / "elsewhere"))
    assert "FLOWSHEET_HOME" in caught.value.todo
    with pytest.raises(UsageError, match="does not see the extract"):
        check_shared_store(a_round(Store.open().root, there=False))


def test_servers_that_do_not_answer_are_asked_again():
    outages = [
        ConnectionRefusedError(),
        requests.exceptions.ConnectionError(),
        sqlalchemy.exc.OperationalError("select 1", {}, Exception("server closed the connection")),
        MlflowException("API request to http://127.0.0.1:5000/api failed with exception"),
        Unreachable("the Optuna database cannot be reached"),
    ]
    assert all(map(is_outage, outages))
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = outages[0]
    assert is_outage(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        CheckFailed("3 failures"),
        UsageError("no such key"),
        ValueError(),
        FileNotFoundError(),
        MlflowException("no run"),
    ],
)
def test_nothing_else_is(error):
    assert not is_outage(error)


def test_a_runner_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "prefect_ray", None)
    with pytest.raises(UsageError, match=r"runner=ray is not installed") as caught:
        runner(ComputeConfig(name="x", runner="ray"))
    assert "flowsheet[ray]" in caught.value.todo


@pytest.mark.parametrize(("pool", "kind"), [(None, "Processes"), ("cpu", "ThreadPoolTaskRunner")])
def test_the_runner_follows_the_compute_choice(pool, kind):
    assert type(runner(ComputeConfig(name="x", pool=pool))).__name__ == kind
