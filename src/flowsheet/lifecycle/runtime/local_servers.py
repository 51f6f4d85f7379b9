"""Local Prefect and MLflow servers on loopback, which run for as long as they are used.

If ``PREFECT_API_URL`` is set, no Prefect server is started. Otherwise, all processes that use one
``FLOWSHEET_HOME`` share one server: the first process starts it, and the last one stops it. A
server that a killed process left behind is used further, and ends by itself if nothing uses it.
Even a single run uses a real server, because Prefect's in-process server loses task records at
exit.

The server requires a login, which is in ``server.json``, a file of the private state folder, or in
``PREFECT_SERVER_API_AUTH_STRING``, where the user has set it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flowsheet.compose import resource_dir
from flowsheet.environment import bypass_proxies_for_loopback, prepare_process
from flowsheet.errors import FlowsheetError, UsageError
from flowsheet.lifecycle.runtime.prefect_database import check_not_newer, set_aside_if_damaged
from flowsheet.state.home import PRIVATE, home
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.locks import exclusive_lock, shared_lock, try_lock

QUIET_SETTINGS = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 2 processes instead of 10
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the flows print their own progress
    "PREFECT_CLIENT_MAX_RETRIES": "6",  # after 2, 4, ... 64 s: about two minutes
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500,504",  # while the server's database is down
}
"""Environment variables: no telemetry, fewer processes, fewer log lines, patient clients."""
_START_SECONDS = 180.0
_STOP_SIGNALS = ((signal.SIGTERM, 8.0), (signal.SIGKILL, 2.0))
"""Signals to stop a server, and how many seconds to wait after each."""
_SERVER_LOGIN = "PREFECT_SERVER_API_AUTH_STRING"
_CLIENT_LOGIN = "PREFECT_API_AUTH_STRING"


def use_quiet_settings() -> None:
    """Set ``QUIET_SETTINGS`` for this process and its children, where they are not set already.

    Prefect reads its settings when it is imported: call this before that, or let it read them
    again (:mod:`flows.process_settings`).
    """
    prepare_process()
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
    folder.chmod(PRIVATE)  # also where Prefect itself has made it, as soon as it was imported
    os.environ.setdefault("PREFECT_HOME", str(folder))
    users_lock = folder / "users.lock"  # shared by all processes that use the server
    users_lock.touch()
    start_lock = folder / "start.lock"  # locked while the server is being started or stopped
    with contextlib.ExitStack() as usage:
        try:
            with exclusive_lock(start_lock):
                usage.enter_context(shared_lock(users_lock))
                server = _find_running_server(folder)
                process = None
                if server is None:
                    server, process = _start_prefect(folder, port or find_free_port())
                usage.enter_context(_environment_of(server))
                while_starting()
                if process:
                    wait_for_server(f"{server.url}/health", process, folder / "server.log")
            yield server.url
        finally:
            with exclusive_lock(start_lock):
                usage.close()
                _stop_if_unused(users_lock, folder)


@contextlib.contextmanager
def running_prefect_api() -> Iterator[str | None]:
    """The URL of the Prefect API that is running, for :func:`prefect_api`'s client; else None.

    No server is started.
    """
    configured_url = os.environ.get("PREFECT_API_URL")
    if configured_url:
        yield configured_url if is_responding(f"{configured_url}/ready") else None
        return
    server = _PrefectServer.read(home() / "prefect")
    if server is None or not is_responding(f"{server.url}/ready"):
        yield None
        return
    with _environment_of(server):
        yield server.url


@dataclass(frozen=True)
class _PrefectServer:
    """A running server, as ``server.json`` describes it."""

    url: str
    pid: int
    login: str | None = None
    """None if it is the one in the environment, which is written to no file."""

    @classmethod
    def read(cls, folder: Path) -> _PrefectServer | None:
        file = folder / "server.json"
        if not file.is_file():
            return None
        content = read_json(file)  # a newer release may have written more
        return cls(content["url"], content["pid"], content.get("login"))


@contextlib.contextmanager
def _environment_of(server: _PrefectServer) -> Iterator[None]:
    """Variables that lead Prefect's client to the server; as they were after the block.

    Raises:
        UsageError: the server's login is unknown to this process.
    """
    login = server.login or _configured_login()
    if login is None:
        raise UsageError(
            "the Prefect server that is running needs a login",
            where=server.url,
            todo=f"set {_SERVER_LOGIN} to the value with which it was started",
        )
    before = os.environ.get(_CLIENT_LOGIN)
    os.environ["PREFECT_API_URL"] = server.url
    os.environ[_CLIENT_LOGIN] = login
    try:
        yield
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        os.environ.pop(_CLIENT_LOGIN, None)
        if before is not None:
            os.environ[_CLIENT_LOGIN] = before


def _configured_login() -> str | None:
    return os.environ.get(_SERVER_LOGIN) or os.environ.get(_CLIENT_LOGIN) or None


def generated_login() -> str | None:
    """The login of this state folder's server, for its page; None if the user has chosen it."""
    server = _PrefectServer.read(home() / "prefect")
    return server.login if server else None


def find_prefect_url(home_folder: Path) -> str | None:
    """The URL of the server of that state folder, if it runs."""
    server = _PrefectServer.read(home_folder / "prefect")
    return server.url if server and is_responding(f"{server.url}/health") else None


def _find_running_server(folder: Path) -> _PrefectServer | None:
    """The server in ``server.json`` if it answers; one that does not is stopped."""
    server = _PrefectServer.read(folder)
    if server is None:
        return None
    if _is_prefect_server(server, folder):
        if is_responding(f"{server.url}/health"):
            return server
        stop_server(server.pid)
    return None


def _is_prefect_server(server: _PrefectServer, folder: Path) -> bool:
    """Whether the process is the server of that URL and folder.

    Ids of ended processes are reused, and a state folder may be a copy of another one whose server
    is running.
    """
    if not Path("/proc/self").exists():
        return is_responding(f"{server.url}/health")
    try:
        command_line = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    arguments = command_line.rstrip("\0").split("\0")
    port = server.url.removesuffix("/api").rsplit(":", 1)[1]
    is_ours = str(_prefect_script()) in arguments and port in arguments
    served = Path(arguments[-1])
    return is_ours and served.exists() and served.samefile(folder)


def _prefect_script() -> Path:
    return resource_dir("flows") / "prefect_server.py"


def _start_prefect(folder: Path, port: int) -> tuple[_PrefectServer, subprocess.Popen[bytes]]:
    """Start a server and describe it in ``server.json``.

    Raises:
        UsageError: the port is taken.
    """
    check_port_is_free(port)
    set_aside_if_damaged(folder)
    check_not_newer(folder)
    login = None if _configured_login() else f"flowsheet:{secrets.token_urlsafe(32)}"
    command = [
        "-P",
        str(_prefect_script()),
        str(port),
        str(folder),
    ]  # -P: flows/ is no package path
    environment = {
        "PREFECT_HOME": os.environ["PREFECT_HOME"],
        **_protection(port, login or str(_configured_login())),
    }
    process = start_server(command, folder / "server.log", environment)
    server = _PrefectServer(f"http://127.0.0.1:{port}/api", process.pid, login)
    write_json(folder / "server.json", dataclasses.asdict(server))
    return server, process


def _protection(port: int, login: str) -> dict[str, str]:
    """Settings of a server that answers only its own pages and clients that know the login."""
    origins = (f"http://127.0.0.1:{port}", f"http://localhost:{port}")
    return {
        _SERVER_LOGIN: login,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
    }


def _stop_if_unused(users_lock: Path, folder: Path) -> None:
    with try_lock(users_lock) as is_unused:
        server = _PrefectServer.read(folder) if is_unused else None
        if server:
            if _is_prefect_server(server, folder):
                stop_server(server.pid)
            (folder / "server.json").unlink()


def start_server(
    arguments: list[str], log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start ``python ARGUMENTS`` in a new session and append its output to ``log``."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
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


def check_port_is_free(port: int) -> None:
    """Raise a UsageError if a process listens on that port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"port {port} is taken", todo="choose another with --mlflow-port or --prefect-port"
            ) from error


def is_responding(url: str) -> bool:
    """Whether a GET request to the URL returns status 200.

    Hosts in ``NO_PROXY``, loopback among them, are asked directly.
    """
    bypass_proxies_for_loopback()
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
