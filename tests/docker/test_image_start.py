"""The images' commands and environments, run outside Docker on a temporary Postgres."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from flowsheet.lifecycle.runtime.local_servers import find_free_port, stop_server
from tests.security.foreign_requests import find_answered

DOCKER = Path(__file__).resolve().parents[2] / "docker"
PASSWORDS = {
    "PREFECT_DB_PASSWORD": "hush1",
    "MLFLOW_DB_PASSWORD": "hush2",
    "OPTUNA_DB_PASSWORD": "hush3",
}
AUTH = {"PREFECT_AUTH": "ada:hush4"}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.skipif(not shutil.which("psql"), reason="psql is not installed"),
    pytest.mark.skipif(
        not importlib.util.find_spec("psycopg"), reason="the extra postgres is not installed"
    ),
]


def read_dockerfile(image: str) -> str:
    return (DOCKER / f"{image}.Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def read_command(image: str, instruction: str) -> list[str]:
    """The command of the image's last CMD or HEALTHCHECK."""
    lines = [line for line in read_dockerfile(image).splitlines() if line.startswith(instruction)]
    last = lines[-1]
    return [str(word) for word in json.loads(last[last.index("[") :])]


def replace_all(text: str, replacements: dict[str, str]) -> str:
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text


def read_environment(image: str, service: str, addresses: dict[str, str]) -> dict[str, str]:
    """The image's ENV and the service's environment, with ``addresses`` replaced."""
    last_env = re.findall(r"^ENV (.*)$", read_dockerfile(image), flags=re.M)[-1:]
    environment = dict(re.findall(r"(\w+)=(\S+)", " ".join(last_env)))
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    secrets = {**PASSWORDS, **AUTH}
    for name, value in services[service]["environment"].items():
        filled = re.sub(r"\$\{(\w+)[^}]*\}", lambda match: secrets.get(match[1], ""), str(value))
        environment[name] = replace_all(filled, addresses)
    return environment


@contextlib.contextmanager
def running(
    image: str, service: str, folder: Path, addresses: dict[str, str], ports: dict[str, str]
) -> Iterator[None]:
    """Run the image's command, from the time at which its own health check succeeds."""
    local = {"0.0.0.0": "127.0.0.1", "/opt/venv/flows": str(DOCKER.parent / "flows"), **ports}
    inherited = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PREFECT_", "MLFLOW_", "FLOWSHEET_"))
    }
    environment = {
        **inherited,
        **read_environment(image, service, addresses),
        "PREFECT_HOME": str(folder / image),
        "FLOWSHEET_HOME": str(folder / "h"),
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        "PREFECT_WORKER_WEBSERVER_PORT": ports.get("8080", "8080"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = [replace_all(word, local) for word in read_command(image, "CMD")]
    health_check = [replace_all(word, local) for word in read_command(image, "HEALTHCHECK")]
    log = folder / f"{image}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=folder,
        )
    try:
        deadline = time.monotonic() + 180
        while not succeeds([sys.executable, *health_check[1:]]):
            assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")[-3000:]
            time.sleep(0.5)
        yield
    finally:
        stop_server(process.pid)


def succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def get_status(url: str, **headers: str) -> int:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_servers_and_a_worker_start_and_become_healthy(postgres, tmp_path):
    subprocess.run(
        ["bash", str(DOCKER / "postgres" / "databases.sh")],
        env={**postgres, **PASSWORDS},
        check=True,
    )
    prefect = str(find_free_port())
    mlflow = str(find_free_port())
    worker = str(find_free_port())
    addresses = {
        "postgres:5432": f"127.0.0.1:{postgres['PGPORT']}",
        "mlflow:5000,127.0.0.1:5000,localhost:5000": f"127.0.0.1:{mlflow}",
        "prefect:4200": f"127.0.0.1:{prefect}",
        "mlflow:5000": f"127.0.0.1:{mlflow}",
    }
    with (
        running("prefect", "prefect", tmp_path, addresses, {"4200": prefect}),
        running("mlflow", "mlflow", tmp_path, addresses, {"5000": mlflow}),
        running("worker-cpu", "worker-cpu", tmp_path, addresses, {"8080": worker}),
    ):
        without_password = get_status(f"http://127.0.0.1:{prefect}/api/work_pools/cpu")
        assert without_password == 401
        experiments_api = f"http://127.0.0.1:{mlflow}/api/2.0/mlflow/experiments"
        default_experiment = f"{experiments_api}/get-by-name?experiment_name=Default"
        assert get_status(default_experiment) == 200
        assert get_status(f"http://127.0.0.1:{prefect}/api/health", Host="prefect:4200") == 200
        assert find_answered(int(prefect), "/", "/api/health", "/api/flows/filter") == []
        pages = ("/", "/health", "/api/2.0/mlflow/experiments/search")
        assert find_answered(int(mlflow), *pages) == []
    for log in tmp_path.glob("*.log"):
        assert "hush" not in log.read_text(encoding="utf-8")
