"""Who asks: the client whose token a request carries."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from flowsheet.prediction.errors import RequestRejected
from flowsheet.serving.middleware import REJECTION, send_json
from flowsheet.serving.tokens import TokenFile

CLIENT = "flowsheet.client"
"""Key of the ASGI scope under which the client's name is kept."""
PROBES = frozenset({"/ready", "/health"})
"""Pages for probes, which carry no token; without one they tell a status and nothing else."""


class TokenAuthentication:
    """ASGI middleware: requests without a client's token are answered with 401."""

    def __init__(self, app: ASGIApp, tokens: TokenFile) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a client's request on, with its name in the scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[CLIENT] = self._tokens.client(_bearer_token(scope))
        if scope[CLIENT] is None and scope["path"] not in PROBES:
            scope[REJECTION] = "unauthorized"
            message = "send the header authorization: Bearer TOKEN with a client's token"
            body = RequestRejected(401, "unauthorized", message).body
            await send_json(send, 401, body, [(b"www-authenticate", b"Bearer")])
            return
        await self._app(scope, receive, send)


def _bearer_token(scope: Scope) -> str:
    """The token of the request; empty if it has none, or more than one."""
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) != 1:
        return ""
    scheme, _, token = values[0].decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
