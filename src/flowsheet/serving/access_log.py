"""One line of the log for each request: who asked what, when, and which version answered.

With the client's own copy of the request, ``body_sha256`` finds the answer's line; the line itself
contains no row of a record.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowsheet.serving.authentication import CLIENT
from flowsheet.serving.middleware import PATHS, REJECTION
from flowsheet.serving.structured_logging import write_line

REQUEST = "flowsheet.request"
"""Key of the ASGI scope under which a request's ``RequestRecord`` is kept."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


@dataclass
class RequestRecord:
    """What a page adds to the request's line."""

    request_id: str = ""
    version: int | None = None
    stays: int | None = None
    body_sha256: str | None = None


class AccessLog:
    """ASGI middleware: gives each request an id, and writes its line after the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, return its id, and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = perf_counter()
        request_id = _request_id(scope)
        record = scope[REQUEST] = RequestRecord(request_id.decode())
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", []), (b"x-request-id", request_id)]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            write_line(
                "request",
                request_id=record.request_id,
                client=scope.get(CLIENT),
                method=scope["method"] if scope["method"] in ("GET", "POST") else "other",
                path=scope["path"] if scope["path"] in PATHS else "other",
                status=status,
                seconds=round(perf_counter() - start, 6),
                rejection=scope.get(REJECTION),
                version=record.version,
                stays=record.stays,
                body_sha256=record.body_sha256,
            )


def _request_id(scope: Scope) -> bytes:
    """The client's own id if it is well-formed, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return bytes(value)
    return uuid.uuid4().hex.encode()
