"""Requests from foreign web pages are rejected, on loopback too.

A page in the user's browser can send requests to any port of the user's machine. It is recognised
by its ``Origin``, by ``Sec-Fetch-Site`` where the browser sends no ``Origin`` (images, scripts,
frames), or, where a foreign name was rebound to this machine, by its ``Host``. A link to a page of
the server may be anywhere: the page that has the link cannot read what it opens.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_DEFAULT_PORTS = (None, 80, 443)
_AUTHORITY = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1


def declared_hosts() -> list[str]:
    """Names of a server besides the loopback names: ``FLOWSHEET_ALLOWED_HOSTS``, by commas.

    Ports may be written and are of no account: a proxy or a tunnel changes them.
    """
    declared = os.environ.get("FLOWSHEET_ALLOWED_HOSTS", "").split(",")
    authorities = [_parse_authority(name.strip()) for name in declared]
    return [authority[0] for authority in authorities if authority]


class OwnOriginOnly:
    """ASGI middleware: serves requests that name this server, unless another site's page sent them.

    Args:
        app: the application behind it.
        hosts: names of the server besides the loopback names, without ports.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._hosts = LOOPBACK_NAMES | {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 400 (foreign host) or 403 (foreign origin)."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        hosts = _header_values(scope, b"host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            message = "this is not the name of the server; see its option --allowed-host"
            await _reject(scope, send, 400, "unknown_host", message)
            return
        origins = _header_values(scope, b"origin")
        is_same_site = all(self._is_same_site(origin, hosts[0]) for origin in origins)
        if not is_same_site or (not origins and _is_foreign_fetch(scope)):
            message = "pages of other origins may not use this server"
            await _reject(scope, send, 403, "foreign_origin", message)
            return
        await self._app(scope, receive, send)

    def _is_own(self, authority: str) -> bool:
        parsed = _parse_authority(authority)
        return parsed is not None and parsed[0] in self._hosts

    def _is_same_site(self, origin: str, host: str) -> bool:
        scheme, _, authority = origin.partition("://")
        if scheme not in ("http", "https") or not self._is_own(authority):
            return False
        origin_name, origin_port = _parse_authority(authority) or ("", None)
        host_name, host_port = _parse_authority(host) or ("", None)
        is_same_machine = {origin_name, host_name} <= LOOPBACK_NAMES
        return origin_port == host_port and (origin_name == host_name or is_same_machine)


def _is_foreign_fetch(scope: Scope) -> bool:
    """Whether the browser reports that a page of another origin sends this, not by a link.

    Source: Fetch Metadata Request Headers, https://www.w3.org/TR/fetch-metadata/.
    """
    if set(_header_values(scope, b"sec-fetch-site")) <= {"same-origin", "none"}:
        return False
    is_navigation = _header_values(scope, b"sec-fetch-mode") == ["navigate"]
    is_link = is_navigation and _header_values(scope, b"sec-fetch-dest") == ["document"]
    return not (is_link and scope.get("method") in ("GET", "HEAD"))


def _header_values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _parse_authority(authority: str) -> tuple[str, int | None] | None:
    """Name and port; the port is None where it is a protocol's own. None if it is malformed."""
    if not _AUTHORITY.fullmatch(authority):
        return None
    try:
        parts = urlsplit(f"//{authority}")
        port = parts.port
    except ValueError:
        return None
    return parts.hostname or "", None if port in _DEFAULT_PORTS else port


async def _reject(scope: Scope, send: Send, status: int, kind: str, message: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        return
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    body = json.dumps({"error": kind, "message": message}).encode()
    await send({"type": "http.response.body", "body": body})
