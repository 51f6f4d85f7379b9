"""A Prefect server for the processes that use one state folder.

It differs from ``prefect server start`` in two ways: web pages of other origins get nothing from it
(Prefect checks neither ``Host`` nor ``Origin``), and it ends by itself once no process uses it.

``python -P flows/prefect_server.py PORT FOLDER``, where FOLDER holds ``users.lock``, ``start.lock``
and ``server.json`` (see ``flowsheet.lifecycle.runtime.local_servers``).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import uvicorn
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings

from flowsheet.own_origin import OwnOriginOnly
from flowsheet.state.locks import try_lock

_CHECK_SECONDS = 5.0
_SHUTDOWN_SECONDS = 5


def main(port: int, folder: Path) -> None:
    """Serve on 127.0.0.1 until a signal, or until no process uses the server."""
    api = get_current_settings().server.api
    config = uvicorn.Config(
        OwnOriginOnly(create_app(final=True)),
        host="127.0.0.1",
        port=port,
        timeout_keep_alive=api.keepalive_timeout,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        log_level="warning",
    )
    server = uvicorn.Server(config)
    watch = threading.Thread(target=_stop_when_unused, args=(server, folder), daemon=True)
    watch.start()
    server.run()


def _stop_when_unused(server: uvicorn.Server, folder: Path) -> None:
    """Wait until no process holds the users' lock, then let the server end."""
    while not _is_unused(folder):
        time.sleep(_CHECK_SECONDS)
    server.should_exit = True
    time.sleep(2 * _SHUTDOWN_SECONDS)
    os._exit(0)  # a request or a service of Prefect's that does not end


def _is_unused(folder: Path) -> bool:
    """Whether no process uses the server; if so, it is no longer announced in ``server.json``.

    A process that starts to use it holds the start lock until it also holds the users' lock.
    """
    try:
        with try_lock(folder / "start.lock") as is_quiet:
            if not is_quiet:
                return False
            with try_lock(folder / "users.lock") as is_unused:
                if is_unused:
                    (folder / "server.json").unlink(missing_ok=True)
                return is_unused
    except FileNotFoundError:
        return True  # the folder was deleted


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
