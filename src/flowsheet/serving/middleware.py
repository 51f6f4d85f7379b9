"""Around every request: what went out is counted, and nothing leaves as a traceback."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowsheet.prediction.errors import Refused
from flowsheet.serving.metrics import Metrics

PATHS = frozenset(
    {"/predict", "/health", "/ready", "/version", "/metrics", "/docs", "/openapi.json"}
)
LOG = logging.getLogger("flowsheet.serving")


class Doorman:
    """Pure ASGI, since this is passed with every request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            LOG.error("request failed: %s", type(error).__name__)
            scope["flowsheet.refused"] = "internal"
            if not status:
                await _internal(watched)
        path = scope["path"] if scope["path"] in PATHS else "other"
        self._metrics.requests.labels(path, str(status)).inc()
        if kind := scope.get("flowsheet.refused"):
            self._metrics.refused.labels(kind).inc()


async def _internal(send: Send) -> None:
    body = Refused(500, "internal", "the server could not answer; its log tells more").body
    await send(
        {
            "type": "http.response.start",
            "status": 500,
            "headers": [(b"content-type", b"application/json")],
        }
    )
    await send({"type": "http.response.body", "body": body})
