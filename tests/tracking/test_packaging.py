from __future__ import annotations

import inspect
import json
import os
import pickletools
import platform
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flowsheet.errors import CheckFailed
from flowsheet.prediction.input_rows import example_tables, to_rows
from flowsheet.tracking import packaging
from flowsheet.tracking.datasets import DataSet
from flowsheet.tracking.model_registry import register
from flowsheet.tracking.packaging import list_requirements, log_model
from flowsheet.tracking.store import as_default, connect, tracking_uri


@pytest.fixture
def uri(model_run, model_package) -> str:
    metrics = {"test.auroc": 0.7, "test.nan": float("nan")}
    return log_model(model_run, model_package.folder, metrics=metrics)


@pytest.fixture
def package_folder(uri) -> Path:
    """The package in the artifact store."""
    location = connect().get_logged_model(uri.removeprefix("models:/")).artifact_location
    return Path(location.removeprefix("file://").replace("%20", " "))


def run_in_new_process(code: str, *arguments: str) -> None:
    environment = {
        **os.environ,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_TRACKING_URI": tracking_uri(),
    }
    completed = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
        encoding="utf-8",
    )
    assert completed.returncode == 0, completed.stderr


PREDICT = """
import sys, json, pandas, mlflow
table = json.load(open(sys.argv[2]))
rows = pandas.DataFrame(table["data"], columns=table["columns"])
risks = mlflow.pyfunc.load_model(sys.argv[1]).predict(rows)
risks.to_json(sys.argv[3], orient="columns", double_precision=15)
"""


def test_a_package_predicts_the_same_in_another_process(uri, model_package, tables, tmp_path):
    rows_file, risks_file = tmp_path / "rows.json", tmp_path / "risks.json"
    to_rows(tables).to_json(rows_file, orient="split", double_precision=15)
    run_in_new_process(PREDICT, uri, str(rows_file), str(risks_file))
    columns = json.loads(risks_file.read_text(encoding="utf-8"))
    risks = pl.DataFrame({name: list(column.values()) for name, column in columns.items()})
    expected = model_package.predict(tables)
    assert risks["stay_id"].to_list() == expected["stay_id"].to_list()
    assert risks["time"].str.to_datetime(time_unit="us").to_list() == expected["time"].to_list()
    assert risks["step"].to_list() == expected["step"].to_list()
    np.testing.assert_allclose(risks["risk"], expected["risk"], rtol=1e-12)


def test_no_file_of_a_package_is_a_pickle(package_folder):
    files = [path for path in package_folder.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"MLmodel", "package.json", "input_example.json"} <= names
    for path in files:
        assert not is_pickle(path.read_bytes()), path


def test_a_package_has_signature_example_and_requirements(package_folder):
    from mlflow.models import Model

    model = Model.load(str(package_folder))
    required = [column.name for column in model.signature.inputs if column.required]
    assert required == ["table", "stay_id"]
    outputs = [column.name for column in model.signature.outputs]
    assert outputs == ["stay_id", "time", "step", "risk"]
    input_example = model.load_input_example(str(package_folder))
    assert set(input_example["stay_id"]) == {1, 2}
    requirements = (package_folder / "requirements.txt").read_text(encoding="utf-8").split()
    assert requirements == list_requirements(package_folder / "data" / "model_package")
    assert not any(name in " ".join(requirements) for name in ("flowsheet", "torch", "scikit"))


def test_files_of_the_working_folder_do_not_join_a_package(
    model_run, model_package, tmp_path, monkeypatch
):
    """MLflow copies them, and `--env-manager uv` installs what they name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n", encoding="utf-8")
    (tmp_path / "uv.lock").write_text("version = 1\n", encoding="utf-8")
    uri = log_model(model_run, model_package.folder)
    location = connect().get_logged_model(uri.removeprefix("models:/")).artifact_location
    folder = Path(location.removeprefix("file://").replace("%20", " "))
    assert not {"pyproject.toml", "uv.lock"} & {file.name for file in folder.rglob("*")}


def test_an_environment_by_virtualenv_needs_pyenv(package_folder, tmp_path, monkeypatch):
    """As docs/serving.md describes, with the ways that need none."""
    from mlflow import models
    from mlflow.exceptions import MlflowException

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MlflowException, match="Could not find the pyenv binary"):
        models.predict(str(package_folder), input_data="{}", env_manager="virtualenv")
    environment = (package_folder / "python_env.yaml").read_text(encoding="utf-8")
    assert f"python: {platform.python_version()}" in environment
    signature = inspect.signature(models.predict)
    assert signature.parameters["env_manager"].default == "virtualenv"


def test_changed_code_is_refused_where_flowsheet_is_installed(uri, model_run, config, tmp_path):
    from mlflow import pyfunc

    from flowsheet.tracking.model_registry import get_version
    from flowsheet.tracking.registered_packages import load_package

    version = register(config.name, model_run, uri, "k" * 64)
    location = connect().get_logged_model(uri.removeprefix("models:/")).artifact_location
    folder = Path(location.removeprefix("file://").replace("%20", " "))
    for name in ("code.zip", "flowsheet_pyfunc.py"):
        file = next(folder.rglob(name))
        content = file.read_bytes()
        file.write_bytes(content + b"#")
        with pytest.raises(CheckFailed, match=f"changed: .*{name}"):
            pyfunc.load_model(str(folder))
        with pytest.raises(CheckFailed, match=f"changed: .*{name}"):
            load_package(get_version(config.name, version))
        file.write_bytes(content)
    pyfunc.load_model(str(folder))


def test_a_package_predicts_its_example(package_folder):
    from mlflow import pyfunc

    risks = pyfunc.load_model(str(package_folder)).predict(to_rows(example_tables()))
    assert set(risks["stay_id"]) == {1, 2}
    assert risks["risk"].between(0, 1).all()


def test_a_models_metrics_belong_to_the_data_set_that_they_were_computed_on(
    model_run, model_package
):
    data = DataSet("ward, held out", "d" * 64, "simulated", context="test")
    uri = log_model(
        model_run,
        model_package.folder,
        "lstm",
        metrics={"test.auroc": 0.7},
        data=data,
        params={"model.hidden": 8},
    )
    model = connect().get_logged_model(uri.removeprefix("models:/"))
    assert model.name == "lstm"
    assert model.params == {"model.hidden": "8"}
    (metric,) = model.metrics
    assert (metric.key, metric.dataset_name) == ("test.auroc", "ward, held out")
    (given,) = connect().get_run(model_run).inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("ward, held out", metric.dataset_digest)


def test_a_model_is_logged_once(uri, model_run, model_package, config):
    assert log_model(model_run, model_package.folder) == uri
    experiment = connect().get_experiment_by_name(config.name).experiment_id
    (model,) = connect().search_logged_models([experiment])
    assert {metric.key: metric.value for metric in model.metrics} == {"test.auroc": 0.7}
    outputs = connect().get_run(model_run).outputs.model_outputs
    assert [output.model_id for output in outputs] == [model.model_id]


def test_an_interrupted_upload_is_completed(model_run, model_package, config, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(packaging, "_upload", kill)
        with pytest.raises(Killed):
            log_model(model_run, model_package.folder)
    uri = log_model(model_run, model_package.folder)
    experiment = connect().get_experiment_by_name(config.name).experiment_id
    (model,) = connect().search_logged_models([experiment])
    assert (uri, str(model.status)) == (f"models:/{model.model_id}", "READY")


def test_a_registered_version_loads_by_name(uri, model_run, config):
    from mlflow import pyfunc

    name = f"{config.name}-logistic"
    register(name, model_run, uri, "k" * 64)
    with as_default():
        model = pyfunc.load_model(f"models:/{name}/1")
    assert len(model.predict(to_rows(example_tables())))


@pytest.mark.slow
@pytest.mark.server
def test_mlflow_models_serve_predicts_the_same(package_folder, model_package, tables, tmp_path):
    port = find_free_port()
    log = tmp_path / "server.log"
    server = start_server(package_folder, port, log)
    try:
        await_ping(port, server, log)
        rows = to_rows(tables)
        records = json.loads(rows.to_json(orient="records", double_precision=15))
        sparse_records = [
            {name: value for name, value in record.items() if value is not None}
            for record in records
        ]
        split = json.loads(rows.to_json(orient="split", double_precision=15, index=False))
        expected = model_package.predict(tables)
        for body in (
            {"dataframe_records": records},
            {"dataframe_records": sparse_records},
            {"dataframe_split": split},
        ):
            risks = pl.DataFrame(post(port, body)["predictions"])
            assert risks["stay_id"].to_list() == expected["stay_id"].to_list()
            np.testing.assert_allclose(risks["risk"], expected["risk"], rtol=1e-12)
        with pytest.raises(urllib.error.HTTPError) as rejected:
            post(port, {"dataframe_records": [{"table": "event", "stay_id": 1}]})
        assert rejected.value.code == 400
        assert "'event'" in rejected.value.read().decode()
    finally:
        if server.poll() is None:
            os.killpg(server.pid, 15)
        server.wait(timeout=30)


def is_pickle(content: bytes) -> bool:
    try:
        return content[-1:] == b"." and bool(list(pickletools.genops(content)))
    except (ValueError, IndexError):
        return False


def find_free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_server(
    model: str | Path,
    port: int,
    log: Path,
    python: str | Path = sys.executable,
    environment: dict[str, str] | None = None,
) -> subprocess.Popen:
    command = [str(python), "-m", "mlflow", "models", "serve", "-m", str(model)]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    used = environment or {**os.environ, "PATH": path}
    with log.open("w", encoding="utf-8") as output:
        return subprocess.Popen(
            command,
            env={**used, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
            cwd=log.parent,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def await_ping(port: int, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text(encoding="utf-8")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(log.read_text(encoding="utf-8"))


def post(port: int, body: dict) -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())
