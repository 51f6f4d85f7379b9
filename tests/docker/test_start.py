"""What the images start, started outside Docker: the same commands and environments, on a Postgres of their own."""

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


def words(image: str, instruction: str) -> list[str]:
    """The list after the last CMD of an image, or after its health check's."""
    text = (DOCKER / f"{image}.Dockerfile").read_text().replace("\\\n", " ")
    found = [line for line in text.splitlines() if line.startswith(instruction)][-1]
    return [str(word) for word in json.loads(found[found.index("[") :])]


def environment(image: str, service: str, at: dict[str, str]) -> dict[str, str]:
    """The image's ENV and the service's environment, at these addresses."""
    text = (DOCKER / f"{image}.Dockerfile").read_text().replace("\\\n", " ")
    given = dict(
        re.findall(r"(\w+)=(\S+)", " ".join(re.findall(r"^ENV (.*)$", text, flags=re.M)[-1:]))
    )
    said = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"][service]["environment"]
    for name, value in said.items():
        filled = re.sub(
            r"\$\{(\w+)[^}]*\}", lambda m: {**PASSWORDS, **AUTH}.get(m[1], ""), str(value)
        )
        for theirs, ours in at.items():
            filled = filled.replace(theirs, ours)
        given[name] = filled
    return given


@contextlib.contextmanager
def started(
    image: str, service: str, folder: Path, at: dict[str, str], ports: dict[str, str]
) -> Iterator[None]:
    """The image's command, until its own health check says yes."""

    def here(word: str) -> str:
        for theirs, ours in {"0.0.0.0": "127.0.0.1", **ports}.items():
            word = word.replace(theirs, ours)
        return word

    bare = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PREFECT_", "MLFLOW_", "FLOWSHEET_"))
    }
    told = {
        **environment(image, service, at),
        "PREFECT_HOME": str(folder / image),
        "FLOWSHEET_HOME": str(folder / "h"),
    }
    told["MLFLOW_ARTIFACTS_DESTINATION"] = str(folder / "artifacts")
    told["PREFECT_WORKER_WEBSERVER_PORT"] = ports.get("8080", "8080")
    told["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command, check = [
        [here(word) for word in words(image, name)] for name in ("CMD", "HEALTHCHECK")
    ]
    with (folder / f"{image}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**bare, **told},
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=folder,
        )
    try:
        deadline = time.monotonic() + 180
        while subprocess.run(
            [sys.executable, *check[1:]], capture_output=True, check=False
        ).returncode:
            assert process.poll() is None, (folder / f"{image}.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (folder / f"{image}.log").read_text()[-3000:]
            time.sleep(0.5)
        yield
    finally:
        stop_server(process.pid)


def answer(url: str, **headers: str) -> int:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as told:
            return int(told.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_servers_and_a_worker_start_and_say_that_they_are_well(postgres, tmp_path):
    subprocess.run(
        ["bash", str(DOCKER / "postgres" / "databases.sh")],
        env={**postgres, **PASSWORDS},
        check=True,
    )
    prefect, mlflow, worker = (str(find_free_port()) for _ in range(3))
    at = {
        "postgres:5432": f"127.0.0.1:{postgres['PGPORT']}",
        "mlflow:5000,127.0.0.1:5000,localhost:5000": f"127.0.0.1:{mlflow}",
        "prefect:4200": f"127.0.0.1:{prefect}",
        "mlflow:5000": f"127.0.0.1:{mlflow}",
    }
    with (
        started("prefect", "prefect", tmp_path, at, {"4200": prefect}),
        started("mlflow", "mlflow", tmp_path, at, {"5000": mlflow}),
        started("worker-cpu", "worker-cpu", tmp_path, at, {"8080": worker}),
    ):
        assert (
            answer(f"http://127.0.0.1:{prefect}/api/work_pools/cpu") == 401
        )  # nobody without PREFECT_AUTH
        experiments = f"http://127.0.0.1:{mlflow}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
        assert answer(experiments) == 200
        assert answer(experiments, Host="evil.example.org") == 403
    for log in tmp_path.glob("*.log"):
        assert "hush" not in log.read_text()
