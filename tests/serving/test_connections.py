"""Clients that do not complete their headers neither stay nor keep others out."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from flowsheet.serving.connections import make_protocol, raise_open_files_limit

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
HALF = GET[:-4]


async def application(scope, receive, send) -> None:
    assert scope["type"] == "http"
    message = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    await send(message)
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.contextmanager
def serve(header_seconds: float, max_waiting: int) -> Iterator[int]:
    """The port of a server with these limits."""
    config = uvicorn.Config(
        application,
        http=make_protocol(header_seconds, max_waiting),
        lifespan="off",
        log_config=None,
        limit_concurrency=100 + max_waiting,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(2_048)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)


def connect(port: int, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(sent)
    return connection


def read_answer(connection: socket.socket) -> bytes:
    answer = b""
    while not answer.endswith(b"ok") and (part := connection.recv(4096)):
        answer += part
    return answer


def ask(port: int) -> bytes:
    with connect(port, GET) as connection:
        return read_answer(connection)


def test_a_client_that_does_not_complete_its_headers_is_disconnected():
    with serve(header_seconds=0.5, max_waiting=10) as port:
        for earlier_requests in (0, 1):
            with connect(port) as connection:
                for _ in range(earlier_requests):
                    connection.sendall(GET)
                    read_answer(connection)
                connection.sendall(HALF)
                start = time.monotonic()
                assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
                assert connection.recv(4096) == b""
                assert 0.4 < time.monotonic() - start < 4


def test_a_client_that_sends_nothing_is_disconnected():
    with serve(header_seconds=0.5, max_waiting=10) as port, connect(port) as connection:
        start = time.monotonic()
        while connection.recv(4096):
            pass
        assert time.monotonic() - start < 4


def test_a_client_that_sends_a_byte_at_a_time_is_disconnected():
    with serve(header_seconds=0.5, max_waiting=10) as port, connect(port) as connection:
        start = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - start < 10:
                connection.sendall(b"G")
                time.sleep(0.05)
        assert time.monotonic() - start < 5


def test_thousands_of_half_sent_headers_keep_nobody_out():
    raise_open_files_limit()
    with serve(header_seconds=60, max_waiting=50) as port:
        crowd = []
        try:
            for i in range(2_100):
                crowd.append(connect(port, HALF))
                if i % 300 == 0:
                    assert ask(port).startswith(b"HTTP/1.1 200")
            assert ask(port).startswith(b"HTTP/1.1 200")
        finally:
            for connection in crowd:
                connection.close()


@pytest.mark.parametrize("gap", [0.0, 0.2])
def test_a_connection_is_used_for_several_requests(gap):
    with serve(header_seconds=0.5, max_waiting=10) as port, connect(port) as connection:
        for _ in range(5):
            connection.sendall(GET[:10])
            time.sleep(gap)
            connection.sendall(GET[10:])
            assert read_answer(connection).endswith(b"ok")
