"""Requests as a foreign web page sends them from the user's browser."""

from __future__ import annotations

from http.client import HTTPConnection

FOREIGN_HEADERS = (
    {"Host": "evil.example"},
    {"Host": "evil.example:{port}"},
    {"Host": "127.0.0.1.evil.example:{port}"},
    {"Host": "localhost.evil.example"},
    {"Origin": "http://evil.example"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://127.0.0.1:{port}.evil.example"},
    {"Origin": "null"},
    {"Host": "[::1::2]:{port}"},
    {"Sec-Fetch-Site": "cross-site"},
)


def send(port: int, path: str, headers: dict[str, str], method: str = "GET") -> tuple[int, dict]:
    """Status and headers of the answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        filled = {name: value.format(port=port) for name, value in headers.items()}
        connection.request(method, path, headers=filled)
        answer = connection.getresponse()
        answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def find_answered(port: int, *paths: str) -> list[str]:
    """The foreign requests that the server answers, or that its answer lets a page read."""
    answered = []
    for path in paths:
        for headers in FOREIGN_HEADERS:
            for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS"):
                status, answer = send(port, path, headers, method)
                if status < 400 or "access-control-allow-origin" in answer:
                    answered.append(f"{method} {path} {headers}: {status}")
    return answered
