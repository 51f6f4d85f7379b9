"""One process that serves: started, watched by signals, drained."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import sys

import torch
import uvicorn

from flowsheet import __version__
from flowsheet.errors import UsageError
from flowsheet.serving.app import make_app
from flowsheet.serving.service import Service
from flowsheet.serving.settings import ServeConfig
from flowsheet.serving.structured_logging import JournalHandler, journal

_CONNECTIONS = 2_000
"""Further connections are answered with 503."""

_SWITCH_SECONDS = 0.001
"""How long the computing thread may keep the interpreter from the one that reads and writes."""

_YOUNG = 100_000
"""Objects that live at once before they are searched for cycles: more than the rows of a usual batch."""


def serve(config: ServeConfig) -> None:
    """Serve until SIGTERM or Ctrl-C; then answer what was taken, and return.

    Raises:
        FlowsheetError: the model does not load, or the port is taken.
    """
    service = Service(config)
    with _bound(config.host, config.port) as listening:
        torch.set_num_threads(1)
        service.load()
        sys.setswitchinterval(_SWITCH_SECONDS)
        _spare_the_collector()
        _log_to_journal()
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(service),
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="on",
                ws="none",
                limit_concurrency=_CONNECTIONS,
                timeout_graceful_shutdown=config.drain_seconds,
            )
        )
        for kind in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it is done
            signal.signal(kind, lambda *_: None)
        address = listening.getsockname()
        journal(
            "serving",
            flowsheet=__version__,
            model=config.name,
            alias=config.alias,
            host=address[0],
            port=address[1],
        )
        server.run(sockets=[listening])
    journal("stopped")


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            todo="choose others with --host and --port",
        ) from error
    return listening


def _spare_the_collector() -> None:
    """What is loaded stays; searching it for cycles again and again would take a sixth of the server's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)


def _log_to_journal() -> None:
    for name in ("uvicorn", "flowsheet.serving"):
        logger = logging.getLogger(name)
        logger.handlers = [JournalHandler(logging.WARNING)]
        logger.propagate = False
