"""Loopback is reached without the proxy that the environment names."""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
import requests

from flowsheet.environment import bypass_proxies_for_loopback, prepare_process

PROXIES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(autouse=True)
def proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A proxy that nothing listens on; the variables and the umask are restored afterwards."""
    for name in (*PROXIES, *map(str.lower, PROXIES)):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    umask = os.umask(0o022)
    yield
    os.umask(umask)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "127.0.0.1:9"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_every_client_reaches_loopback(port, monkeypatch, name, proxy, host):
    monkeypatch.setenv(name, proxy)
    monkeypatch.setenv("NO_PROXY", "example.org")
    prepare_process()
    url = f"http://{host}:{port}/"
    assert httpx.get(url).status_code == 200
    assert requests.get(url, timeout=5).status_code == 200
    assert urllib.request.urlopen(url, timeout=5).status == 200


def test_httpx_still_refuses_a_socks_proxy_for_hosts_in_no_proxy(port, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    bypass_proxies_for_loopback()
    with pytest.raises(ImportError, match="socksio"):
        httpx.get(f"http://127.0.0.1:{port}/")


def test_a_proxy_for_other_hosts_stays(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.org:3128")
    monkeypatch.setenv("no_proxy", "a.example.org, ::1")
    monkeypatch.setenv("NO_PROXY", "b.example.org")
    assert prepare_process() == []
    assert os.environ["HTTPS_PROXY"] == "http://proxy.example.org:3128"
    expected = "a.example.org,::1,b.example.org,localhost,127.0.0.1"
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == expected


def test_a_proxy_that_is_dropped_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5h://ada:hush@proxy.example.org:1080")
    (warning,) = prepare_process()
    assert "ALL_PROXY" in warning
    assert "socksio" in warning
    assert "hush" not in warning
    assert "ALL_PROXY" not in os.environ


def test_files_are_private_whatever_the_umask(tmp_path):
    prepare_process()
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
