"""Counts every response, and answers an unexpected error without its traceback."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowsheet.prediction.errors import RequestRejected
from flowsheet.serving.metrics import Metrics

PATHS = frozenset(
    {"/predict", "/explain", "/health", "/ready", "/version", "/metrics", "/docs", "/openapi.json"}
)
REJECTION = "flowsheet.rejection"
"""Key of the ASGI scope under which a rejected request keeps its kind of error."""
LOG = logging.getLogger("flowsheet.serving")


class MetricsMiddleware:
    """Plain ASGI, which costs each request less than Starlette's base class does."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_and_keep_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_keep_status)
        except Exception as error:
            LOG.error("request failed: %s", type(error).__name__)
            scope[REJECTION] = "internal"
            if not status:
                await _send_internal_error(send_and_keep_status)
        path = scope["path"] if scope["path"] in PATHS else "other"
        self._metrics.requests.labels(path, str(status)).inc()
        if kind := scope.get(REJECTION):
            self._metrics.rejected.labels(kind).inc()


async def _send_internal_error(send: Send) -> None:
    message = "the server could not answer; its log has details"
    await send_json(send, 500, RequestRejected(500, "internal", message).body)


async def send_json(
    send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Send a complete JSON answer.

    Args:
        send: the ASGI channel.
        status: HTTP status code.
        body: JSON.
        headers: further headers besides the content type.
    """
    all_headers = [(b"content-type", b"application/json"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})
