"""The example of a proxy names the pages and the port of ``flowsheet serve``."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from flowsheet.serving.middleware import PATHS
from flowsheet.serving.settings import ServeConfig
from tests.conftest import ROOT

CADDYFILE = (ROOT / "docker/Caddyfile").read_text(encoding="utf-8")


def test_the_proxy_passes_on_pages_that_exist_to_the_default_address():
    (pages,) = re.findall(r"@pages path (.+)", CADDYFILE)
    private = {"/metrics", "/docs", "/openapi.json"}
    assert set(pages.split()) == PATHS - private
    config = ServeConfig(name="m")
    address = f"{config.host}:{config.port}"
    assert re.findall(r"reverse_proxy (\S+)", CADDYFILE) == [address]
    assert re.findall(r"header_up Host (\S+)", CADDYFILE) == [address]


def test_the_proxy_lets_only_clients_with_a_certificate_in_and_limits_requests():
    assert "mode require_and_verify" in CADDYFILE
    assert "trust_pool file {$CLIENT_CA}" in CADDYFILE
    assert "max_size 8MB" in CADDYFILE
    assert ServeConfig(name="m").limits.body_bytes == 8_000_000
    assert CADDYFILE.count("{") == CADDYFILE.count("}")


@pytest.mark.skipif(not shutil.which("caddy"), reason="caddy is not installed")
def test_caddy_accepts_the_file():
    environment = {
        "RISK_HOST": "risk.example.org",
        "CLIENT_CA": "/etc/hostname",
        "PATH": "/usr/bin",
    }
    command = ["caddy", "adapt", "--config", str(ROOT / "docker/Caddyfile")]
    assert subprocess.run(command, env=environment, check=False).returncode == 0
