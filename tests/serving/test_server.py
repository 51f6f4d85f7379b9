"""A real server over a real registry: ``flowsheet serve`` and ``mlflow models serve`` side by side."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

from flowsheet.cli import main
from flowsheet.prediction.input_rows import to_rows
from flowsheet.tracking.model_registry import register
from flowsheet.tracking.packaging import log_model
from flowsheet.tracking.store import artifact_root, connect, tracking_uri

NAME = "ward-model"
pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def registered(model_package, rival, tmp_path_factory):
    """A home with two versions of a model; the first is champion, the second challenger."""
    home = tmp_path_factory.mktemp("served home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        client = connect()
        experiment = client.create_experiment("served", artifact_root())
        for alias, made in (("champion", model_package), ("challenger", rival)):
            run = client.create_run(experiment).info.run_id
            version = register(NAME, run, log_model(run, made.folder), made.training_key)
            client.set_registered_model_alias(NAME, alias, str(version))
    return home


@pytest.fixture
def home(registered, monkeypatch):
    monkeypatch.setenv("FLOWSHEET_HOME", str(registered))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return registered


@pytest.fixture
def packages_by_version(model_package, rival):
    return model_package, rival


@contextlib.contextmanager
def serving(command: list[str], path: str, log: Path, env: dict | None = None):
    """The process and its port, from its first answer on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tools = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port)],
            stdout=out, stderr=out, env={**os.environ, **tools, **(env or {})}, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2),
            ):
                break
            time.sleep(0.2)
        yield process, port
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def post(port: int, path: str, body: bytes) -> dict:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.loads(answer.read())


@contextlib.contextmanager
def begun(port: int, path: str, body: bytes, sent: int):
    """A request whose first bytes the server has read; what is given sends the rest and takes the answer."""
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=60)) as line:
        line.putrequest("POST", path)
        line.putheader("Content-Type", "application/json")
        line.putheader("Content-Length", str(len(body)))
        line.endheaders(body[:sent])
        for _ in range(2):  # once it has answered these, it has seen what came before them
            get(port, "/health")

        def finish() -> dict:
            line.send(body[sent:])
            answer = line.getresponse()
            assert answer.status == 200, answer.read()
            return json.loads(answer.read())

        yield finish


def raw(port: int, sent: bytes) -> bytes:
    """What comes back for bytes that are no HTTP."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        with contextlib.suppress(ConnectionError):
            line.sendall(sent)
        return line.recv(4096)


def get(port: int, path: str) -> dict:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return json.loads(answer.read())


def listening(pid: int) -> set[str]:
    """Addresses on which the process listens, as /proc writes them."""
    found = set()
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(link.readlink()))
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A" and f"socket:[{parts[9]}]" in inodes:
                found.add(parts[1].split(":")[0])
    return found


def test_the_server_follows_the_registry_shadows_and_drains(
    home, packages_by_version, ward, tell, tmp_path
):
    model_package, rival = packages_by_version
    part = tell.of_stays(ward, *ward.stays["stay_id"].head(3))
    body, log = tell.body(part, seed=1), tmp_path / "server.log"
    command = ["flowsheet", "serve", NAME, "--poll-seconds", "0.2", "--shadow", "challenger"]
    with serving(command, "/ready", log) as (process, port):
        first = post(port, "/predict", body)
        assert first["model"] == {"name": NAME, "version": 1, "alias": "champion"}
        says(first, model_package, part)
        assert listening(process.pid) == {"0100007F"}, "more than loopback"
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(port, "/predict", b'{"stays": 1}')
        assert refused.value.code == 422
        for spoilt in (
            b"no such protocol\r\n\r\n",
            b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n",
            b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
            b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 50_000,
        ):
            assert raw(port, spoilt).startswith(b"HTTP/1.1 4"), spoilt[:60]

        answers = hammer(port, body, lambda: move_alias(port, 2))
        assert {answer["model"]["version"] for answer in answers} == {1, 2}
        for answer in answers:
            says(answer, {1: model_package, 2: rival}[answer["model"]["version"]], part)

        connect().delete_registered_model_alias(NAME, "champion")
        wait_for(lambda: get(port, "/health")["status"] == "degraded")
        assert get(port, "/health")["champion"]["version"] == 2
        says(post(port, "/predict", body), rival, part)
        move_alias(port, 1)

        whole = tell.body(ward)
        with (
            begun(port, "/predict", whole, len(whole) // 2) as half_sent,
            begun(port, "/predict", whole, len(whole)) as pending,
        ):
            process.send_signal(signal.SIGTERM)
            wait_for(lambda: not listening(process.pid))
            for finish in (half_sent, pending):
                says(finish(), model_package, ward)
        assert process.wait(30) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    events = [line["event"] for line in lines]
    assert events[-1] == "stopped"
    assert {"serving", "model_loaded", "reload_failed"} <= set(events)
    assert list((home / "serving" / "shadow" / NAME).glob("*.parquet"))


def test_mlflow_serves_the_champion_too(home, model_package, ward, tell, tmp_path):
    connect().set_registered_model_alias(NAME, "champion", "1")
    command = [
        "mlflow",
        "models",
        "serve",
        "-m",
        f"models:/{NAME}@champion",
        "--env-manager",
        "local",
    ]
    env = {"MLFLOW_TRACKING_URI": tracking_uri(), "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    part = tell.of_stays(ward, *ward.stays["stay_id"].head(3))
    with serving([*command, "--host", "127.0.0.1"], "/ping", tmp_path / "mlflow.log", env) as (
        _,
        port,
    ):
        split = json.loads(to_rows(part).to_json(orient="split", index=False, double_precision=15))
        told = post(port, "/invocations", json.dumps({"dataframe_split": split}).encode())[
            "predictions"
        ]
    np.testing.assert_allclose(
        [row["risk"] for row in told], model_package.predict(part)["risk"], atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ward-modle"], "did you mean"),
        ([f"{NAME}@nobody"], "no version with the alias 'nobody'"),
        ([NAME, "--host", "203.0.113.1"], "cannot listen on 203.0.113.1"),
        ([NAME, "--max-rows", "0"], "limits.rows=0"),
        ([NAME, "--shadow", "champion"], "cannot be its own shadow"),
    ],
)
def test_a_server_that_cannot_start_says_why(home, capsys, monkeypatch, words, told):
    monkeypatch.setenv("POLARS_MAX_THREADS", "1")
    with pytest.raises(SystemExit) as ended:
        main(["serve", *words])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_a_taken_port_is_said(home, capsys, monkeypatch):
    monkeypatch.setenv("POLARS_MAX_THREADS", "1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SystemExit):
            main(["serve", NAME, "--port", str(taken.getsockname()[1])])
    assert "choose others with --host and --port" in capsys.readouterr().err


def says(answer: dict, model_package, tables) -> None:
    expected = model_package.predict(tables)
    stays = sorted(answer["stays"], key=lambda stay: stay["stay_id"])
    risks = [risk for stay in stays for risk in stay["risk"]]
    times = [datetime.fromisoformat(time) for stay in stays for time in stay["time"]]
    assert times == expected["time"].to_list()
    np.testing.assert_allclose(risks, expected["risk"], atol=1e-6, rtol=0)


def move_alias(port: int, version: int) -> None:
    connect().set_registered_model_alias(NAME, "champion", str(version))
    wait_for(lambda: get(port, "/health")["champion"]["version"] == version)


def hammer(port: int, body: bytes, meanwhile) -> list[dict]:
    """Answers to requests that are sent without pause, before, while and after something happens."""
    answers: list[dict] = []
    over = threading.Event()

    def ask():
        while not over.is_set():
            answers.append(post(port, "/predict", body))

    asking = [Later(ask) for _ in range(4)]
    wait_for(lambda: len(answers) > 4)
    meanwhile()
    seen = len(answers)
    wait_for(lambda: len(answers) > seen + 8)
    over.set()
    for one in asking:
        one.result()
    return answers


class Later:
    """What a function gives, computed on a thread."""

    def __init__(self, work) -> None:
        self._outcome: list = []
        self._thread = threading.Thread(target=self._run, args=(work,))
        self._thread.start()

    def _run(self, work) -> None:
        try:
            self._outcome.append(work())
        except BaseException as error:
            self._outcome.append(error)

    def result(self):
        self._thread.join(60)
        (outcome,) = self._outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
