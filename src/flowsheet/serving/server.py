"""One server process: start, serve until a signal, finish requests under way, stop."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import ssl
import sys

import torch
import uvicorn

from flowsheet import __version__
from flowsheet.errors import UsageError
from flowsheet.serving.app import make_app
from flowsheet.serving.connections import make_protocol, raise_open_files_limit
from flowsheet.serving.service import Service
from flowsheet.serving.settings import ServeConfig
from flowsheet.serving.structured_logging import StructuredHandler, log_event

_MAX_CONNECTIONS = 2_000
"""Requests under way; further ones are answered with 503."""

_MAX_WAITING = 500
"""Connections without a request under way; of more than these the oldest are closed."""

_HEADER_SECONDS = 10.0
"""How long a client may take to send the headers of a request."""

_SWITCH_SECONDS = 0.001
"""How long the scoring thread may keep the interpreter while the event loop waits for it."""

_COLLECTOR_THRESHOLD = 100_000
"""New objects before a search for reference cycles: more than the rows of a usual batch."""


def serve(config: ServeConfig) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer the accepted requests and return.

    Raises:
        FlowsheetError: the model cannot be loaded, or the port is taken.
    """
    _check_certificate(config)
    raise_open_files_limit()
    service = Service(config)
    app = make_app(service)
    with _bind(config.host, config.port) as listener:
        torch.set_num_threads(1)
        service.load()
        sys.setswitchinterval(_SWITCH_SECONDS)
        _reduce_garbage_collection()
        _redirect_library_logs()
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=make_protocol(_HEADER_SECONDS, _MAX_WAITING),
                ssl_certfile=config.certfile,
                ssl_keyfile=config.keyfile,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="on",
                ws="none",
                limit_concurrency=_MAX_CONNECTIONS + _MAX_WAITING,
                timeout_graceful_shutdown=config.drain_seconds,
            )
        )
        # uvicorn raises a signal again after its shutdown; these handlers let serve() return.
        for kind in (signal.SIGTERM, signal.SIGINT):
            signal.signal(kind, lambda *_: None)
        host, port = listener.getsockname()[:2]
        log_event(
            "serving",
            flowsheet=__version__,
            model=config.name,
            alias=config.alias,
            host=host,
            port=port,
            tls=config.certfile is not None,
            login="tokens" if config.token_file else "none",
        )
        if sys.stderr.isatty():
            _print_address(host, port, is_encrypted=config.certfile is not None)
        server.run(sockets=[listener])
    log_event("stopped")


def _print_address(host: str, port: int, *, is_encrypted: bool) -> None:
    """Print where a person finds the page that describes requests."""
    scheme = "https" if is_encrypted else "http"
    name = f"[{host}]" if ":" in host else host
    print(f"requests are described at {scheme}://{name}:{port}/docs", file=sys.stderr, flush=True)
    print("Ctrl-C to stop", file=sys.stderr, flush=True)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            todo="choose others with --host and --port",
        ) from error
    return listener


def _check_certificate(config: ServeConfig) -> None:
    """Raise a UsageError if certificate and key cannot be used."""
    if config.certfile is None or config.keyfile is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.certfile, config.keyfile, password=lambda: "")
    except OSError as error:  # ssl.SSLError among them
        raise UsageError(
            f"certificate and key cannot be used: {error.strerror or error}",
            where=f"{config.certfile}, {config.keyfile}",
            todo="give PEM files that belong together, the key without a passphrase",
        ) from error


def _reduce_garbage_collection() -> None:
    """Exempt everything loaded so far, which stays, from the search for reference cycles.

    Searching it again and again would take a sixth of the server's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTOR_THRESHOLD, 10, 10)


def _redirect_library_logs() -> None:
    for name in ("uvicorn", "flowsheet.serving"):
        logger = logging.getLogger(name)
        logger.handlers = [StructuredHandler(logging.WARNING)]
        logger.propagate = False
