"""Local Prefect and MLflow servers on loopback, which run for as long as they are used.

If ``PREFECT_API_URL`` is set, no Prefect server is started. Otherwise, all processes that use one
``FLOWSHEET_HOME`` share one server: the first process starts it, and the last one stops it. A
server that a killed process left behind is used further. Even a single run uses a real server,
because Prefect's in-process server loses task records at exit.
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
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the flows print their own progress
    "PREFECT_CLIENT_MAX_RETRIES": "6",  # after 2, 4, ... 64 s: about two minutes
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",  # returned while the server's database is down
}
"""Environment variables: no telemetry, fewer processes, fewer log lines, patient clients."""
_START_SECONDS = 180.0
_STOP_SIGNALS = ((signal.SIGTERM, 8.0), (signal.SIGKILL, 2.0))
"""Signals to stop a server, and how many seconds to wait after each."""


def use_quiet_settings() -> None:
    """Set ``QUIET_SETTINGS`` for this process and its children, where they are not set already."""
    for name, value in QUIET_SETTINGS.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def prefect_api(
    port: int | None = None, while_starting: Callable[[], object] = lambda: None
) -> Iterator[str]:
    """The URL of a Prefect API; ``PREFECT_API_URL`` is set to it inside the block.

    Args:
        port: where a server is started if none is running; None chooses a free port.
        while_starting: called with the URL set, before the server has to answer. Use it for slow
            imports.
    """
    configured_url = os.environ.get("PREFECT_API_URL")
    if configured_url:
        while_starting()
        yield configured_url
        return
    folder = home() / "prefect"
    folder.mkdir(exist_ok=True)
    os.environ.setdefault("PREFECT_HOME", str(folder))
    users_lock = folder / "users.lock"  # shared by all processes that use the server
    users_lock.touch()
    start_lock = folder / "start.lock"  # locked while the server is being started or stopped
    with contextlib.ExitStack() as usage:
        try:
            with exclusive_lock(start_lock):
                usage.enter_context(shared_lock(users_lock))
                url = _find_running_server(folder)
                process = None
                if url is None:
                    url, process = _start_prefect(folder, port or find_free_port())
                os.environ["PREFECT_API_URL"] = url
                while_starting()
                if process:
                    wait_for_server(f"{url}/health", process, folder / "server.log")
            yield url
        finally:
            os.environ.pop("PREFECT_API_URL", None)
            with exclusive_lock(start_lock):
                usage.close()
                _stop_if_unused(users_lock, folder)


def _find_running_server(folder: Path) -> str | None:
    """The URL of the server in ``server.json`` if it answers; one that does not is stopped."""
    state_file = folder / "server.json"
    if not state_file.is_file():
        return None
    state = read_json(state_file)
    url = str(state["url"])
    pid = int(state["pid"])
    if is_responding(f"{url}/health"):
        return url
    if _is_prefect_server(pid, url):
        stop_server(pid)
    return None


def _is_prefect_server(pid: int, url: str) -> bool:
    """Whether the process is the server of that URL: ids of ended processes are reused."""
    try:
        command_line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    arguments = command_line.split("\0")
    port = url.removesuffix("/api").rsplit(":", 1)[1]
    return "prefect" in arguments and port in arguments


def _start_prefect(folder: Path, port: int) -> tuple[str, subprocess.Popen[bytes]]:
    """Start a server and write its URL and process id to ``server.json``."""
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = {"PREFECT_HOME": os.environ["PREFECT_HOME"]}
    process = start_server(command, folder / "server.log", environment)
    url = f"http://127.0.0.1:{port}/api"
    write_json(folder / "server.json", {"url": url, "pid": process.pid})
    return url, process


def _stop_if_unused(users_lock: Path, folder: Path) -> None:
    state_file = folder / "server.json"
    with try_lock(users_lock) as is_unused:
        if is_unused and state_file.is_file():
            stop_server(int(read_json(state_file)["pid"]))
            state_file.unlink()


def start_server(
    command: list[str], log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start ``python -m COMMAND`` in a new session and append its output to ``log``."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **QUIET_SETTINGS, **environment},
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
        "the server did not start", where=str(log), todo="read the last lines of this log"
    )


def stop_server(pid: int) -> None:
    """Stop a server that :func:`start_server` started, with all its child processes."""
    for stop_signal, seconds in _STOP_SIGNALS:
        try:
            os.killpg(pid, stop_signal)
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
    """A loopback port that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_responding(url: str) -> bool:
    """Whether a GET request to the URL returns status 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
