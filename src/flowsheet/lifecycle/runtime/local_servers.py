"""Prefect's and MLflow's own servers, on loopback, for as long as somebody needs them.

With ``PREFECT_API_URL`` set nothing is started. Otherwise the runs and pages that share one
``FLOWSHEET_HOME`` share one Prefect server: the first starts it, the last one out stops it, and one
that was left behind by a killed run is taken over. A real server is used even for a single run
because Prefect's in-process one loses task records at exit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from flowsheet.errors import FlowsheetError
from flowsheet.state.home import home
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.locks import exclusive_lock, shared_lock, try_lock

QUIET_SETTINGS = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 2 processes instead of 10
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the flow speaks for itself
    "PREFECT_CLIENT_MAX_RETRIES": "6",  # after 2, 4, ... 64 s: two minutes in all
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",  # what a server says that has lost its database
}
_START_SECONDS = 180.0


def use_quiet_settings() -> None:
    """Make the servers and libraries of this process and its children phone nobody and chatter less."""
    for key, value in QUIET_SETTINGS.items():
        os.environ.setdefault(key, value)


@contextlib.contextmanager
def prefect_api(
    port: int | None = None, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[str]:
    """The URL of a Prefect API, set in the environment for the duration of the block.

    ``port`` is where a server is started, if one has to be; None takes a free one. ``meanwhile`` is
    called with the URL set, before the server has to answer: time for slow imports.
    """
    configured = os.environ.get("PREFECT_API_URL")
    if configured:
        meanwhile()
        yield configured
        return
    folder = home() / "prefect"
    folder.mkdir(exist_ok=True)
    os.environ.setdefault("PREFECT_HOME", str(folder))
    users = folder / "users.lock"
    users.touch()
    gate = folder / "start.lock"
    with contextlib.ExitStack() as usage:
        try:
            with exclusive_lock(gate):
                usage.enter_context(shared_lock(users))
                url = _running(folder)
                process = None if url else _start_prefect(folder, port or find_free_port())
                url = os.environ["PREFECT_API_URL"] = (
                    url or read_json(folder / "server.json")["url"]
                )
                meanwhile()
                if process:
                    wait_for_server(f"{url}/health", process, folder / "server.log")
            yield url
        finally:
            os.environ.pop("PREFECT_API_URL", None)
            with exclusive_lock(gate):
                usage.close()
                _stop_if_last(users, folder)


def _running(folder: Path) -> str | None:
    """The URL of the server that the folder tells of, if it answers; one that a killed run left starting is ended."""
    state = folder / "server.json"
    if not state.is_file():
        return None
    known = read_json(state)
    if is_responding(f"{known['url']}/health"):
        return str(known["url"])
    if _is_server(int(known["pid"]), known["url"]):
        stop_server(int(known["pid"]))
    return None


def _is_server(pid: int, url: str) -> bool:
    """Whether that process is still the server of that URL: numbers of ended processes are given out again."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    return "prefect" in words and url.removesuffix("/api").rsplit(":", 1)[1] in words


def _start_prefect(folder: Path, port: int) -> subprocess.Popen[bytes]:
    arguments = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = start_server(
        arguments, folder / "server.log", {"PREFECT_HOME": os.environ["PREFECT_HOME"]}
    )
    write_json(folder / "server.json", {"url": f"http://127.0.0.1:{port}/api", "pid": process.pid})
    return process


def _stop_if_last(users: Path, folder: Path) -> None:
    state = folder / "server.json"
    with try_lock(users) as is_last:
        if is_last and state.is_file():
            stop_server(int(read_json(state)["pid"]))
            state.unlink()


def start_server(module: list[str], log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start ``python -m MODULE ...`` in its own session, its output in ``log``."""
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", *module],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **QUIET_SETTINGS, **env},
            start_new_session=True,
        )


def wait_for_server(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server answers.

    Raises:
        FlowsheetError: it ended or did not answer in time; the message names its log.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if is_responding(url):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    stop_server(process.pid)
    raise FlowsheetError(
        "the server did not start", where=str(log), todo="read the end of that log"
    )


def stop_server(pid: int) -> None:
    """End a server that :func:`start_server` started, with all its children."""
    for kind, seconds in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 2.0)):
        try:
            os.killpg(pid, kind)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            try:
                os.killpg(pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.05)


def find_free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_responding(url: str) -> bool:
    """Whether a GET of the URL succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
