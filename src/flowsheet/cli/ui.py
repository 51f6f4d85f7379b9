"""The MLflow and Prefect pages, on loopback, until somebody has seen enough."""

from __future__ import annotations

import signal
import socket
import sys
import threading

from flowsheet.errors import UsageError, mask_secrets
from flowsheet.lifecycle.runtime.local_servers import (
    prefect_api,
    start_server,
    stop_server,
    use_quiet_settings,
    wait_for_server,
)
from flowsheet.state.home import home
from flowsheet.tracking.store import artifact_root, tracking_uri

_LOOPBACK = "127.0.0.1"
_TRAINED = "/#/experiments?workflowType=machine_learning"
"""MLflow begins with its pages for language models unless it is told otherwise."""


def serve(mlflow_port: int, prefect_port: int) -> None:
    """Show both pages until Ctrl-C or SIGTERM.

    Raises:
        UsageError: a port is taken.
    """
    use_quiet_settings()
    home()
    stopped = threading.Event()
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda *_: stopped.set())
    with prefect_api(prefect_port) as api:
        mlflow = _mlflow(mlflow_port)
        try:
            _say(f"MLflow   {mlflow[0].rstrip('/')}{_TRAINED}")
            _say(f"Prefect  {api.removesuffix('/api')}")
            _say("Ctrl-C to stop")
            stopped.wait()
        finally:
            if mlflow[1]:
                stop_server(mlflow[1])


def _mlflow(port: int) -> tuple[str, int | None]:
    """URL and process of the MLflow page; no process when a server is configured."""
    configured = tracking_uri()
    if configured.startswith("http"):
        return configured, None
    url = f"http://{_LOOPBACK}:{port}"
    if not port_is_free(port):
        raise UsageError(f"port {port} is taken", todo="choose another with --mlflow-port")
    folder = home() / "mlflow"
    folder.mkdir(exist_ok=True)
    arguments = ["mlflow", "server", "--host", _LOOPBACK, "--port", str(port), "--workers", "1"]
    arguments += ["--default-artifact-root", artifact_root()]
    store = {
        "MLFLOW_BACKEND_STORE_URI": tracking_uri()
    }  # it may hold a password, which arguments would show to all
    process = start_server(arguments, folder / "server.log", store)
    wait_for_server(f"{url}/health", process, folder / "server.log")
    return url, process.pid


def port_is_free(port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True


def _say(line: str) -> None:
    print(mask_secrets(line), file=sys.stdout, flush=True)
