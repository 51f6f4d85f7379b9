"""What a foreign web page or a rebound name sends never reaches the application behind."""

from __future__ import annotations

import asyncio

import pytest

from flowsheet.own_origin import OwnOriginOnly

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
OWN = {"host": "127.0.0.1:5000"}
LINK = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}

FOREIGN_HOSTS = (
    "",
    "evil.example",
    "evil.example:5000",
    "127.0.0.1.evil.example:5000",
    "localhost.evil.example",
    "localhost.",
    "localhost@evil.example",
    "localhost:5000:1",
    "localhost:99999",
    "localhost:-1",
    "localhost:5000/",
    " localhost",
    "loc\xadalhost",
    "127.0.0.2",
    "127.1",
    "0.0.0.0:5000",
    "2130706433",
    "0x7f.1",
    "::1",
    "[::1",
    "[::]:5000",
    "[::2]:5000",
    "[::1%25lo]",
    "[127.0.0.1]",
    "[::1::2]",
    "[..]",
    "[::ffff:127.0.0.1]:5000",
    "192.168.0.7:5000",
)
FOREIGN_ORIGINS = (
    "",
    "null",
    "http://evil.example",
    "https://evil.example:5000",
    "http://127.0.0.1:5000.evil.example",
    "http://127.0.0.1",
    "http://127.0.0.1:5001",
    "http://localhost:3000",
    "http://[::1]:5001",
    "http://[127.0.0.1]:5000",
    "http://[::1::2]:5000",
    "http://127.0.0.1:5000/",
    "file://127.0.0.1:5000",
    "ws://127.0.0.1:5000",
    "chrome-extension://abcdefgh",
    "127.0.0.1:5000",
    "http://evil.example http://127.0.0.1:5000",
)
FOREIGN_FETCHES = (
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "unknown"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "document"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
)
FOREIGN = (
    {},
    *({"host": host} for host in FOREIGN_HOSTS),
    *(OWN | {"origin": origin} for origin in FOREIGN_ORIGINS),
    *(OWN | fetch for fetch in FOREIGN_FETCHES),
)


def send(headers, *, method="GET", path="/", kind="http", hosts=()) -> tuple[bool, list[dict]]:
    """Whether the application behind got the request, and what was answered instead."""
    reached, answers = [], []

    async def application(scope, receive, send_on):
        reached.append(scope["type"])

    async def receive():
        return {"type": f"{kind}.disconnect"}

    async def collect(message):
        answers.append(message)

    pairs = headers.items() if isinstance(headers, dict) else headers
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in pairs]
    scope = {"type": kind, "method": method, "path": path, "headers": encoded}
    if kind == "websocket":
        del scope["method"]
    asyncio.run(OwnOriginOnly(application, hosts)(scope, receive, collect))
    return bool(reached), answers


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_foreign_request_of_any_method_is_rejected(headers):
    for method in METHODS:
        reached, (start, body) = send(headers, method=method)
        assert not reached
        assert start["status"] in (400, 403)
        assert dict(start["headers"]) == {b"content-type": b"application/json"}
        assert b"flowsheet" not in body["body"]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_foreign_websocket_is_closed(headers):
    reached, answers = send(headers, kind="websocket")
    assert not reached
    assert answers == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    "headers",
    [
        [("host", "localhost:5000"), ("host", "evil.example")],
        [("host", "localhost:5000"), ("host", "localhost:5000")],
        [*OWN.items(), ("origin", "http://127.0.0.1:5000"), ("origin", "http://evil.example")],
        [*OWN.items(), ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
    ],
)
def test_a_second_header_does_not_hide_the_foreign_one(headers):
    assert not send(headers)[0]


@pytest.mark.parametrize(
    "headers",
    [
        OWN,
        {"host": "LOCALHOST:5000"},
        {"host": "[::1]:5000", "origin": "http://[::1]:5000"},
        OWN | {"origin": "http://localhost:5000", "sec-fetch-site": "cross-site"},
        {"host": "localhost:9000"},  # through a tunnel (ssh -L 9000:localhost:5000)
        OWN | {"sec-fetch-site": "same-origin"},
        OWN | {"sec-fetch-site": "none", **LINK},
        OWN | {"sec-fetch-site": "cross-site", **LINK},  # a link in a wiki or a notebook
    ],
    ids=str,
)
def test_own_pages_links_and_programs_are_answered(headers):
    assert send(headers)[0]


def test_a_link_opens_pages_and_sends_no_form():
    foreign_link = OWN | {"sec-fetch-site": "cross-site", **LINK}
    assert not send(foreign_link, method="POST")[0]
    assert not send(foreign_link, kind="websocket")[0]


def test_a_declared_host_is_answered_with_its_own_origin_only():
    own = {"host": "mlflow.example", "origin": "https://mlflow.example"}
    assert send(own, hosts=("MLflow.example",))[0]
    for origin in ("https://localhost", "https://evil.example", "https://mlflow.example:8443"):
        assert not send(own | {"origin": origin}, hosts=("mlflow.example",))[0]
