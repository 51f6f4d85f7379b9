"""An S3 server on loopback, which can be stopped and started again with its buckets."""

from __future__ import annotations

import logging
import re
import threading
import urllib.request

import pytest
from werkzeug.serving import BaseWSGIServer, make_server

from flowsheet.state.locations import parse_location
from flowsheet.state.object_store import RemoteFolder

BUCKET = "hospital"


class S3Server:
    """A server in this process; its buckets outlive a stop."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.port = 0
        self.requests: list[str] = []
        """Method and path of every request since the last call of ``clear``."""
        self.stop_before: str | None = None
        """Requests whose line matches this pattern are answered with an error of the server."""
        self.stop_answer = "503 Service Unavailable"
        self._server: BaseWSGIServer | None = None

    def start(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        application = DomainDispatcherApplication(create_backend_app)

        def answer(environ, start_response):
            line = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
            self.requests.append(line)
            if self.stop_before and re.search(self.stop_before, line):
                start_response(self.stop_answer, [])
                return [b""]
            return application(environ, start_response)

        self._server = make_server("127.0.0.1", self.port, answer, threaded=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def create_bucket(self, name: str) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/{name}", method="PUT"))

    def reset(self) -> None:
        """No bucket but an empty one."""
        self.stop_before = None
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset", method="POST"))
        self.create_bucket(BUCKET)
        self.requests.clear()


def use_server(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the process for the server, with which calls are repeated for a second."""
    settings = {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "ward",
        "AWS_SECRET_ACCESS_KEY": "round",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "FLOWSHEET_STORAGE_RETRY_SECONDS": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def folder(name: str = "") -> RemoteFolder:
    """A folder in the bucket."""
    location = parse_location(f"s3://{BUCKET}/{name}")
    assert isinstance(location, RemoteFolder)
    return location
