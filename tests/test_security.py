"""What an attacker would look for: pickles, open sockets, default credentials, secrets in what is written."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowsheet.errors import mask_secrets
from flowsheet.lifecycle.runtime.local_servers import find_free_port
from flowsheet.serving.settings import ServeConfig
from flowsheet.tracking.model_registry import register
from flowsheet.tracking.packaging import log_model
from flowsheet.tracking.store import artifact_root, connect, tracking_uri
from tests.model_packages import fit_model_package, ward_tables

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "flows").rglob("*.py")])

# -- pickles and code from data --------------------------------------------------------------------------------------

_PICKLERS = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "jsonpickle",
}
_FORBIDDEN = {
    "eval",
    "exec",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "pd.read_pickle",
    "pandas.read_pickle",
}
_NEEDED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "np.save": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}


def dangers(source: str) -> list[str]:
    """Where the source could run what a file or a user tells it to."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
            found += [
                f"{node.lineno}: import {name}"
                for name in modules
                if name.split(".")[0] in _PICKLERS
            ]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {
                k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)
            }
            key, value = _NEEDED.get(name, ("", None))
            if (
                name in _FORBIDDEN
                or given.get("shell") is True
                or (key and given.get(key, ...) is not value)
            ):
                found.append(f"{node.lineno}: {name}")
    return found


@pytest.mark.parametrize("file", CODE, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_loads_a_pickle_or_runs_what_it_reads(file):
    assert dangers(file.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from joblib import load", "torch.load(f)", "torch.load(f, weights_only=False)", "np.load(f)",
        "np.load(f, allow_pickle=True)", "yaml.load(f)", "eval(x)", "subprocess.run(x, shell=True)", "np.save(f, a)",
    ],
)  # fmt: skip
def test_the_scan_finds(line):
    assert dangers(line)


def test_mlflow_is_told_to_load_no_pickles():
    code = (
        "from flowsheet.tracking.store import connect; import os; connect(); print(os.environ[%r])"
    )
    name = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"
    bare = {k: v for k, v in os.environ.items() if k != name}
    done = subprocess.run(
        [sys.executable, "-c", code % name], env=bare, capture_output=True, text=True, check=True
    )
    assert done.stdout == "false\n"


# -- credentials -----------------------------------------------------------------------------------------------------

_CREDENTIALS = {
    "user and password in a URL": r"://[\w.-]+:(?!\$|\{|\.\.\.|\*\*\*)[^\s/@'\"`]+@",
    "a password that is written out": (
        r"(?i)\b\w*(?:password|passwd|secret|api_?key|auth_string)[\"']?(?::|\s*=)\s*[\"'][^\"'$]+[\"']"
    ),
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a cloud key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
}


def texts() -> list[Path]:
    """Every text file that is shipped, tests aside."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    kept = [
        ROOT / name
        for name in listed
        if not name.startswith("tests/") and not name.endswith(".png")
    ]
    return [file for file in kept if file.is_file()]


def test_no_credential_is_shipped():
    found = [
        f"{file.relative_to(ROOT)}: {kind}: {match.group()}"
        for file in texts()
        for kind, pattern in _CREDENTIALS.items()
        for match in re.finditer(pattern, file.read_text())
        if "ada:lovelace" not in match.group()  # a doctest's
    ]
    assert found == []


@pytest.mark.parametrize(
    "line", ["postgresql://me:mine@db/x", 'password = "changeme"', "'api_key': 'abc'"]
)
def test_a_credential_would_be_found(line):
    assert any(re.search(pattern, line) for pattern in _CREDENTIALS.values())


# -- sockets ---------------------------------------------------------------------------------------------------------


def family(pid: int) -> set[int]:
    """A process and all below it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening(pid: int) -> set[tuple[str, int]]:
    """(address as in /proc/net/tcp, port) of every socket that the process and its children listen on."""
    held = set()
    for member in family(pid):
        for descriptor in Path(f"/proc/{member}/fd").glob("*"):
            with contextlib.suppress(OSError):
                held |= set(re.findall(r"^socket:\[(\d+)\]$", os.readlink(descriptor)))  # noqa: PTH115
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A" and cells[9] in held:  # LISTEN
                address, _, port = cells[1].rpartition(":")
                found.add((address, int(port, 16)))
    return found


LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


@contextlib.contextmanager
def started(*arguments: str, until: str) -> Iterator[int]:
    """The command line, once it has said what it says when it is ready."""
    line = [sys.executable, "-m", "flowsheet", *arguments]
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        killer = threading.Timer(180, process.kill)
        killer.start()
        try:
            said = []
            for told in process.stdout or ():
                said.append(told)
                if until in told:
                    break
            assert process.poll() is None, "".join(said)
            yield process.pid
        finally:
            killer.cancel()
            process.send_signal(signal.SIGTERM)
            process.wait(60)


needs_proc = pytest.mark.skipif(
    not Path("/proc/net/tcp").exists(), reason="there is no /proc to look into"
)


@pytest.mark.server
@needs_proc
def test_the_pages_listen_on_loopback_only(monkeypatch):
    for name in [n for n in os.environ if n.startswith(("PREFECT_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    ports = [find_free_port() for _ in range(2)]
    with started(
        "ui", "--mlflow-port", str(ports[0]), "--prefect-port", str(ports[1]), until="Ctrl-C"
    ) as pid:
        open_ones = listening(pid)
    assert set(ports) <= {port for _, port in open_ones}
    assert {address for address, _ in open_ones} <= LOOPBACK


@pytest.mark.slow
@pytest.mark.server
@needs_proc
def test_a_run_and_the_server_that_it_brings_listen_on_loopback_only(monkeypatch):
    for name in [n for n in os.environ if n.startswith(("PREFECT_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    with started("run", *SMALL, until="trial 1 of") as pid:
        open_ones = listening(pid)
    assert open_ones
    assert {address for address, _ in open_ones} <= LOOPBACK


@pytest.fixture
def champion(tmp_path) -> str:
    """The name of a registered model."""
    made = fit_model_package(tmp_path / "made", "logistic_regression", ward_tables())
    client = connect()
    run = client.create_run(client.create_experiment("security", artifact_root())).info.run_id
    version = register("ward-model", run, log_model(run, made.folder), made.training_key)
    client.set_registered_model_alias("ward-model", "champion", str(version))
    return "ward-model"


@pytest.mark.server
@needs_proc
def test_serving_listens_on_loopback_only(champion):
    assert ServeConfig(name="m").host == "127.0.0.1"
    port = find_free_port()
    with started("serve", champion, "--port", str(port), until='"serving"') as pid:
        deadline = time.monotonic() + 120
        while not (found := listening(pid)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert found == {("0100007F", port)}


@needs_proc
def test_a_socket_on_every_address_would_be_seen():
    import socket

    with socket.socket() as everywhere:
        everywhere.bind(("0.0.0.0", 0))
        everywhere.listen()
        assert ("00000000", everywhere.getsockname()[1]) in listening(os.getpid())


# -- secrets ---------------------------------------------------------------------------------------------------------

SECRETS = {
    "MLFLOW_TRACKING_URI": "http://ada:hush-in-mlflow@127.0.0.1:1",
    "FLOWSHEET_OPTUNA_URL": "postgresql+psycopg://optuna:hush-in-optuna@127.0.0.1:1/optuna",
    "PREFECT_API_URL": "http://ada:hush-in-prefect@127.0.0.1:1/api",
    "PREFECT_API_AUTH_STRING": "ada:hush-in-auth",
    "MLFLOW_TRACKING_TOKEN": "hush-in-token",
    "AWS_SECRET_ACCESS_KEY": "hush-in-aws",
    "POSTGRES_PASSWORD": "hush-in-postgres",
}
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "PREFECT_CLIENT_MAX_RETRIES": "0"}


def leaks(folder: Path, *said: str) -> list[str]:
    """Where a secret is written: in what was said, or in a file, databases and artifacts included."""
    found = [text for text in said if "hush" in text]
    for file in folder.rglob("*"):
        if file.is_file() and (b"hush" in file.read_bytes() or "hush" in file.name):
            found.append(str(file.relative_to(folder)))
    return found


def told(home: Path, *arguments: str, **secrets: str) -> subprocess.CompletedProcess[str]:
    bare = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PREFECT_", "MLFLOW_", "FLOWSHEET_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "flowsheet", *arguments],
        env={**bare, **secrets, "FLOWSHEET_HOME": str(home)},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls", "runs"),
        ("ls", "registry"),
        ("ls", "decisions"),
        ("compare", "0123456789abcdef", "demo-lstm/1"),
        ("promote", "demo-lstm", "--reason", "why not"),
        ("card", "demo-lstm"),
        ("serve", "demo-lstm"),
    ],
    ids=" ".join,
)
def test_a_server_that_does_not_answer_is_told_without_its_password(arguments, tmp_path):
    done = told(tmp_path / "home", *arguments, **SECRETS, **IMPATIENT)
    assert done.returncode != 0
    assert "127.0.0.1" in done.stderr  # which server it was is said
    assert leaks(tmp_path, done.stdout, done.stderr) == []


SMALL = [
    "demo", "cohort=simulated_small", "models=[logistic_regression]", "models.logistic_regression.trials=1",
    "evaluation.resamples=20",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("unreachable", ["MLFLOW_TRACKING_URI", "PREFECT_API_URL"])
def test_a_run_that_fails_leaves_no_secret_behind(unreachable, tmp_path):
    kept = {
        k: v
        for k, v in SECRETS.items()
        if k not in {"MLFLOW_TRACKING_URI", "PREFECT_API_URL"} - {unreachable}
    }
    kept = {k: v for k, v in kept.items() if k != "FLOWSHEET_OPTUNA_URL"}
    if unreachable == "MLFLOW_TRACKING_URI":
        del kept["PREFECT_API_AUTH_STRING"]
    done = told(tmp_path / "home", "run", *SMALL, **kept, **IMPATIENT)
    assert done.returncode != 0
    assert leaks(tmp_path, done.stdout, done.stderr) == []


@pytest.mark.slow
@pytest.mark.server
def test_a_run_that_succeeds_records_no_secret(tmp_path):
    kept = {
        k: v
        for k, v in SECRETS.items()
        if k in {"MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "POSTGRES_PASSWORD"}
    }
    done = told(tmp_path / "home", "run", *SMALL, **kept)
    assert done.returncode == 0, done.stderr
    assert leaks(tmp_path, done.stdout, done.stderr) == []


def test_user_and_password_of_the_tracking_server_never_stay_in_its_url(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    monkeypatch.setenv(
        "MLFLOW_TRACKING_URI", "https://ada:hush%40home@mlflow.example.org:5000/path"
    )
    assert tracking_uri() == "https://mlflow.example.org:5000/path"
    assert tracking_uri() == os.environ["MLFLOW_TRACKING_URI"]
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == (
        "ada",
        "hush@home",
    )


def test_what_looks_like_a_secret_is_masked(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "open sesame")
    monkeypatch.setenv("SHORT_TOKEN", "a")
    assert (
        mask_secrets("say open sesame to http://ada:pass@word@host/x@y")
        == "say *** to http://***@host/x@y"
    )


# -- dependencies ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_dependency_has_a_known_vulnerability():
    audit = os.environ.get("PIP_AUDIT") or shutil.which("pip-audit")
    if not audit:
        pytest.skip("pip-audit is not installed, nor named by PIP_AUDIT")
    line = [
        audit,
        "-r",
        str(ROOT / "constraints.txt"),
        "--no-deps",
        "--disable-pip",
        "--progress-spinner",
        "off",
    ]
    done = subprocess.run(
        [*line, "--desc", "off"], capture_output=True, text=True, check=False, timeout=600
    )
    if "could not be audited: numpy" in done.stdout or "ConnectionError" in done.stderr:
        pytest.skip("pip-audit's database of vulnerabilities cannot be reached")
    assert done.returncode == 0, done.stdout
