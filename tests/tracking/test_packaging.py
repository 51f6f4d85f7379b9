from __future__ import annotations

import json
import os
import pickletools
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flowsheet.prediction.input_rows import example_tables, to_rows
from flowsheet.tracking.model_registry import list_models, register
from flowsheet.tracking.packaging import list_requirements, log_model
from flowsheet.tracking.runs import Tracker
from flowsheet.tracking.store import as_default, connect, tracking_uri


@pytest.fixture
def child(store, config):
    tracker = Tracker.open()
    return tracker.start_model_run(
        tracker.start_experiment_run(config, "key").run_id, "logistic", "k" * 64, {"l2": 1}
    )


@pytest.fixture
def package(child, model_package, tmp_path):
    """A package as it lies in the artifact store."""
    uri = log_model(
        child, model_package.folder, metrics={"test.auroc": 0.7, "test.nan": float("nan")}
    )
    held = connect().get_logged_model(uri.removeprefix("models:/"))
    return uri, Path(held.artifact_location.removeprefix("file://").replace("%20", " "))


def in_a_new_process(code: str, *arguments: str) -> str:
    env = {
        **os.environ,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_TRACKING_URI": tracking_uri(),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=env,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_package_loads_elsewhere_and_says_what_the_model_package_says(
    package, model_package, tables, tmp_path
):
    to_rows(tables).to_json(tmp_path / "rows.json", orient="split", double_precision=15)
    code = """
import sys, json, pandas, mlflow
told = json.load(open(sys.argv[2]))
rows = pandas.DataFrame(told["data"], columns=told["columns"])
mlflow.pyfunc.load_model(sys.argv[1]).predict(rows).to_json(sys.argv[3], orient="columns", double_precision=15)
"""
    in_a_new_process(code, package[0], str(tmp_path / "rows.json"), str(tmp_path / "out.json"))
    told = json.loads((tmp_path / "out.json").read_text())
    answer = pl.DataFrame({name: list(column.values()) for name, column in told.items()})
    expected = model_package.predict(tables)
    assert answer["stay_id"].to_list() == expected["stay_id"].to_list()
    assert answer["time"].str.to_datetime(time_unit="us").to_list() == expected["time"].to_list()
    assert answer["step"].to_list() == expected["step"].to_list()
    np.testing.assert_allclose(answer["risk"], expected["risk"], rtol=1e-12)


def test_no_file_of_a_package_is_a_pickle(package):
    files = [path for path in package[1].rglob("*") if path.is_file()]
    assert {"MLmodel", "package.json", "input_example.json"} <= {path.name for path in files}
    for path in files:
        assert not is_pickle(path.read_bytes()), path


def test_a_package_has_signature_example_and_requirements(package, model_package):
    from mlflow.models import Model

    model = Model.load(str(package[1]))
    required = [column.name for column in model.signature.inputs if column.required]
    assert required == ["table", "stay_id"]
    assert [column.name for column in model.signature.outputs] == [
        "stay_id",
        "time",
        "step",
        "risk",
    ]
    saved = model.load_input_example(str(package[1]))
    assert set(saved["stay_id"]) == {1, 2}
    held = (package[1] / "requirements.txt").read_text().split()
    assert held == list_requirements()
    assert any(line.startswith("torch==") for line in held)


def test_the_example_is_answered(package):
    from mlflow import pyfunc

    answer = pyfunc.load_model(str(package[1])).predict(to_rows(example_tables()))
    assert set(answer["stay_id"]) == {1, 2}
    assert answer["risk"].between(0, 1).all()


def test_a_wrong_request_is_told_so(model_package):
    from mlflow.exceptions import MlflowException

    from flowsheet.tracking.pyfunc import PyfuncModel

    with pytest.raises(MlflowException, match="there is no table 'event'") as caught:
        PyfuncModel(model_package).predict(to_rows(example_tables()).assign(table="event"))
    assert caught.value.get_http_status_code() == 400


def test_packaging_twice_is_one_package(package, child, model_package, config):
    assert log_model(child, model_package.folder) == package[0]
    experiment = connect().get_experiment_by_name(config.name).experiment_id
    (model,) = connect().search_logged_models([experiment])
    assert {m.key: m.value for m in model.metrics} == {"test.auroc": 0.7}
    assert [output.model_id for output in connect().get_run(child).outputs.model_outputs] == [
        model.model_id
    ]


def test_a_package_that_a_kill_cut_off_is_completed(child, model_package, config, monkeypatch):
    import flowsheet.tracking.packaging as module

    class Killed(BaseException):
        pass

    def killed(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, "_upload", killed)
        with pytest.raises(Killed):
            log_model(child, model_package.folder)
    uri = log_model(child, model_package.folder)
    experiment = connect().get_experiment_by_name(config.name).experiment_id
    (model,) = connect().search_logged_models([experiment])
    assert (uri, str(model.status)) == (f"models:/{model.model_id}", "READY")


def test_one_training_is_registered_once(package, child, config):
    name = f"{config.name}-logistic"
    assert register(name, child, package[0], "k" * 64, description="first") == 1
    assert (
        register(name, child, package[0], "k" * 64, description="better", tags={"auroc": "0.7"})
        == 1
    )
    assert register(name, child, package[0], "other") == 2
    versions = {int(v.version): v for v in connect().search_model_versions(f"name = '{name}'")}
    assert len(versions) == 2
    assert versions[1].description == "better"
    assert versions[1].tags == {"flowsheet.training_key": "k" * 64, "auroc": "0.7"}
    assert (versions[1].run_id, versions[1].status) == (child, "READY")
    header, rows = list_models()
    row = next(dict(zip(header, row, strict=True)) for row in rows if row[0] == name)
    assert (row["versions"], row["latest"]) == ("2", "2")


@pytest.mark.parametrize("method", ["create_registered_model", "create_model_version"])
def test_a_server_that_was_asked_twice_holds_one_version(
    package, child, config, monkeypatch, method
):
    """MLflow's client asks again when a server is gone before it has answered; the first time may have counted."""
    name, client = f"{config.name}-asked-twice", connect()._client
    create = getattr(client, method)
    monkeypatch.setattr(client, method, lambda *a, **k: (create(*a, **k), create(*a, **k)))
    assert register(name, child, package[0], "k" * 64) == 1
    assert [v.version for v in connect().search_model_versions(f"name = '{name}'")] == [1]
    assert register(name, child, package[0], "k" * 64) == 1


def test_a_registered_version_loads_by_name(package, child, config):
    from mlflow import pyfunc

    register(f"{config.name}-logistic", child, package[0], "k" * 64)
    with as_default():
        model = pyfunc.load_model(f"models:/{config.name}-logistic/1")
    assert len(model.predict(to_rows(example_tables())))


def test_listing_models_makes_no_store(flowsheet_home):
    assert list_models()[1] == []
    assert not (flowsheet_home / "mlflow" / "mlflow.db").exists()


@pytest.mark.slow
@pytest.mark.server
def test_a_server_answers_what_the_model_package_answers(package, model_package, tables, tmp_path):
    port = free_port()
    command = [
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        str(package[1]),
        "--env-manager",
        "local",
        "--port",
        str(port),
    ]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, *command, "--host", "127.0.0.1"],
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        await_ping(port, server, tmp_path / "server.log")
        told = json.loads(to_rows(tables).to_json(orient="records", double_precision=15))
        lean = [{k: v for k, v in row.items() if v is not None} for row in told]
        for body in (
            {"dataframe_records": told},
            {"dataframe_records": lean},
            {
                "dataframe_split": json.loads(
                    to_rows(tables).to_json(orient="split", double_precision=15, index=False)
                )
            },
        ):
            answer = pl.DataFrame(post(port, body)["predictions"])
            expected = model_package.predict(tables)
            assert answer["stay_id"].to_list() == expected["stay_id"].to_list()
            np.testing.assert_allclose(answer["risk"], expected["risk"], rtol=1e-12)
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(port, {"dataframe_records": [{"table": "event", "stay_id": 1}]})
        assert caught.value.code == 400
        assert "there is no table" in caught.value.read().decode()
    finally:
        if server.poll() is None:
            os.killpg(server.pid, 15)
        server.wait(timeout=30)


def is_pickle(content: bytes) -> bool:
    try:
        return content[-1:] == b"." and bool(list(pickletools.genops(content)))
    except (ValueError, IndexError):
        return False


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_ping(port: int, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(log.read_text())


def post(port: int, body: dict) -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())
