"""A real server and a real registry: ``flowsheet serve`` and ``mlflow models serve``."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from flowsheet.cli import main
from flowsheet.prediction.input_rows import to_rows
from flowsheet.serving.answer_files import read_answers
from flowsheet.tracking.model_registry import register
from flowsheet.tracking.packaging import log_model
from flowsheet.tracking.store import artifact_root, connect, tracking_uri
from tests.request_bodies import encode_body, select_stays

NAME = "ward-model"
TOKEN = "a-token-that-nobody-would-guess-0123456789"
MALFORMED_HTTP = (
    b"no such protocol\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
    b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 50_000,
)
pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def registry_home(model_package, challenger_package, tmp_path_factory):
    """A home with two versions of a model; the first is champion, the second challenger."""
    home = tmp_path_factory.mktemp("registry home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        client = connect()
        experiment = client.create_experiment("served", artifact_root())
        packages = {"champion": model_package, "challenger": challenger_package}
        for alias, package in packages.items():
            run = client.create_run(experiment).info.run_id
            version = register(NAME, run, log_model(run, package.folder), package.training_key)
            client.set_registered_model_alias(NAME, alias, str(version))
    return home


@pytest.fixture
def home(registry_home, monkeypatch):
    monkeypatch.setenv("FLOWSHEET_HOME", str(registry_home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return registry_home


@contextlib.contextmanager
def start_server(
    command: list[str],
    path: str,
    log: Path,
    env: dict | None = None,
    scheme: str = "http",
    **options,
):
    """The process and its port, once it answers ``path``; ``options`` are those of ``urlopen``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    executables = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port)],
            stdout=out,
            stderr=out,
            env={**os.environ, **executables, **(env or {})},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{scheme}://127.0.0.1:{port}{path}", timeout=2, **options),
            ):
                break
            time.sleep(0.2)
        yield process, port
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def post(port: int, path: str, body: bytes) -> dict:
    url = f"http://127.0.0.1:{port}{path}"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def get(port: int, path: str) -> dict:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return json.loads(answer.read())


@contextlib.contextmanager
def start_request(port: int, path: str, body: bytes, sent_bytes: int):
    """A request of which the server has read some bytes; yields a function that finishes it."""
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:sent_bytes])
        for _ in range(2):  # once it has answered these, it has read what came before them
            get(port, "/health")

        def finish() -> dict:
            connection.send(body[sent_bytes:])
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            return json.loads(answer.read())

        yield finish


def send_raw(port: int, data: bytes) -> bytes:
    """The answer to bytes that are not valid HTTP."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        return connection.recv(4096)


def listening_addresses(pid: int) -> set[str]:
    """Addresses on which the process listens, as /proc writes them."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(link.readlink()))
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A" and f"socket:[{cells[9]}]" in inodes:  # 0A: LISTEN
                addresses.add(cells[1].split(":")[0])
    return addresses


def test_the_server_follows_the_registry_shadow_scores_and_drains(
    home, model_package, challenger_package, ward, tmp_path
):
    packages = {1: model_package, 2: challenger_package}
    part = select_stays(ward, *ward.stays["stay_id"].head(3))
    body, log = encode_body(part, shuffle_seed=1), tmp_path / "server.log"
    command = ["flowsheet", "serve", NAME, "--poll-seconds", "0.2", "--shadow", "challenger"]
    with start_server(command, "/ready", log) as (process, port):
        answer = post(port, "/predict", body)
        assert answer["model"] == {"name": NAME, "version": 1, "alias": "champion"}
        assert_predicts(answer, model_package, part)
        assert listening_addresses(process.pid) == {"0100007F"}, "more than 127.0.0.1"
        with pytest.raises(urllib.error.HTTPError) as rejected:
            post(port, "/predict", b'{"stays": 1}')
        assert rejected.value.code == 422
        for data in MALFORMED_HTTP:
            assert send_raw(port, data).startswith(b"HTTP/1.1 4"), data[:60]

        answers = post_repeatedly(port, body, meanwhile=lambda: move_champion(port, 2))
        assert {answer["model"]["version"] for answer in answers} == {1, 2}
        for answer in answers:
            assert_predicts(answer, packages[answer["model"]["version"]], part)

        connect().delete_registered_model_alias(NAME, "champion")
        wait_for(lambda: get(port, "/health")["status"] == "degraded")
        assert get(port, "/health")["champion"]["version"] == 2
        assert_predicts(post(port, "/predict", body), challenger_package, part)
        move_champion(port, 1)

        whole_ward = encode_body(ward)
        with (
            start_request(port, "/predict", whole_ward, len(whole_ward) // 2) as finish_half_sent,
            start_request(port, "/predict", whole_ward, len(whole_ward)) as finish_sent,
        ):
            process.send_signal(signal.SIGTERM)
            wait_for(lambda: not listening_addresses(process.pid))
            for finish in (finish_half_sent, finish_sent):
                assert_predicts(finish(), model_package, ward)
        assert process.wait(30) == 0
    events = [json.loads(line)["event"] for line in log.read_text(encoding="utf-8").splitlines()]
    assert events[-1] == "stopped"
    assert {"serving", "model_loaded", "reload_failed"} <= set(events)
    rows = read_answers(home / "serving" / "answers")
    assert set(rows["version"]) == {1, 2}
    assert set(rows["is_shadow"]) == {True, False}


@pytest.mark.slow
def test_mlflow_serves_the_champion_too(home, model_package, ward, tmp_path):
    connect().set_registered_model_alias(NAME, "champion", "1")
    command = ["mlflow", "models", "serve", "-m", f"models:/{NAME}@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1"]
    env = {"MLFLOW_TRACKING_URI": tracking_uri(), "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    part = select_stays(ward, *ward.stays["stay_id"].head(3))
    split = json.loads(to_rows(part).to_json(orient="split", index=False, double_precision=15))
    body = json.dumps({"dataframe_split": split}).encode()
    with start_server(command, "/ping", tmp_path / "mlflow.log", env) as (_, port):
        rows = post(port, "/invocations", body)["predictions"]
    risks = [row["risk"] for row in rows]
    np.testing.assert_allclose(risks, model_package.predict(part)["risk"], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ward-modle"], "did you mean"),
        ([f"{NAME}@staging"], "no version with the alias 'staging'"),
        ([NAME, "--host", "203.0.113.1", "--no-auth"], "cannot listen on 203.0.113.1"),
        ([NAME, "--host", "0.0.0.0"], "--token-file"),
        ([NAME, "--certfile", "no.pem", "--keyfile", "no.key"], "certificate and key cannot be"),
        ([NAME, "--token-file", "no-tokens"], "the token file cannot be read"),
        ([NAME, "--max-rows", "0"], "limits.rows=0"),
        ([NAME, "--shadow", "champion"], "cannot be its own shadow"),
        ([NAME, "--keep-subjects"], "--keep-subjects needs --keep-answers"),
        ([NAME, "--keep-answers", "/proc/answers"], "answers cannot be kept in the folder"),
    ],
)
def test_a_server_that_cannot_start_gives_the_reason(home, capsys, monkeypatch, arguments, message):
    monkeypatch.setenv("POLARS_MAX_THREADS", "1")
    with pytest.raises(SystemExit) as ended:
        main(["serve", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_taken_port_is_an_error_that_names_the_options(home, capsys, monkeypatch):
    monkeypatch.setenv("POLARS_MAX_THREADS", "1")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(SystemExit):
            main(["serve", NAME, "--port", str(listener.getsockname()[1])])
    assert "choose others with --host and --port" in capsys.readouterr().err


def assert_predicts(answer: dict, model_package, tables) -> None:
    """The answer holds what the model package predicts for the tables."""
    expected = model_package.predict(tables)
    stays = sorted(answer["stays"], key=lambda stay: stay["stay_id"])
    risks = [risk for stay in stays for risk in stay["risk"]]
    times = [datetime.fromisoformat(time) for stay in stays for time in stay["time"]]
    assert times == expected["time"].to_list()
    np.testing.assert_allclose(risks, expected["risk"], atol=1e-6, rtol=0)


def move_champion(port: int, version: int) -> None:
    connect().set_registered_model_alias(NAME, "champion", str(version))
    wait_for(lambda: get(port, "/health")["champion"]["version"] == version)


def post_repeatedly(port: int, body: bytes, meanwhile) -> list[dict]:
    """Answers to requests sent without pause before, while and after ``meanwhile`` runs."""
    answers: list[dict] = []
    is_done = Event()

    def post_until_done():
        while not is_done.is_set():
            answers.append(post(port, "/predict", body))

    with ThreadPoolExecutor(4) as pool:
        senders = [pool.submit(post_until_done) for _ in range(4)]
        try:
            wait_for(lambda: len(answers) > 4)
            meanwhile()
            answered = len(answers)
            wait_for(lambda: len(answers) > answered + 8)
        finally:
            is_done.set()
        for sender in senders:
            sender.result(60)
    return answers


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """PEM files of a self-signed certificate for 127.0.0.1, and of its key."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ward")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        builder.not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    certfile, keyfile = folder / "cert.pem", folder / "key.pem"
    certfile.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    keyfile.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certfile, keyfile


def test_over_tls_tokens_and_host_are_checked_and_plain_http_gets_nothing(
    home, certificate, ward, tmp_path
):
    certfile, keyfile = certificate
    token_file = tmp_path / "tokens"
    token_file.write_text(f"ward:{TOKEN}\n", encoding="utf-8")
    token_file.chmod(0o600)
    trusted = ssl.create_default_context(cafile=str(certfile))
    command = ["flowsheet", "serve", NAME, "--certfile", str(certfile), "--keyfile", str(keyfile)]
    command += ["--token-file", str(token_file)]
    log = tmp_path / "log"
    body = encode_body(select_stays(ward, int(ward.stays["stay_id"][0])))

    def request(port: int, **headers: str) -> int:
        url = f"https://127.0.0.1:{port}/predict"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
        try:
            with urllib.request.urlopen(request, timeout=30, context=trusted) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    with start_server(command, "/ready", log, scheme="https", context=trusted) as (_, port):
        login = {"Authorization": f"Bearer {TOKEN}"}
        assert request(port, **login) == 200
        assert request(port) == 401
        assert request(port, Authorization="Bearer wrong") == 401
        assert request(port, Host="evil.example", **login) in (400, 403, 421)
        assert request(port, Origin="https://evil.example", **login) in (400, 403)
        with pytest.raises((OSError, HTTPException)):
            get(port, "/ready")  # plain HTTP
        untrusting = f"https://127.0.0.1:{port}/ready"
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(untrusting, timeout=10)
    assert TOKEN not in log.read_text(encoding="utf-8")
