"""``flowsheet worker`` starts Prefect's worker with a limit and the settings of flow runs."""

from __future__ import annotations

import os
import sys

import pytest
from click.testing import CliRunner

from flowsheet.cli import cli
from flowsheet.errors import UsageError
from flowsheet.lifecycle.runtime import local_servers
from flowsheet.lifecycle.runtime.resources import default_worker_limit


@pytest.fixture
def start(monkeypatch):
    """Returns the command that would be executed, and its environment."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    monkeypatch.setattr(os, "environ", {**os.environ})
    for name in local_servers.QUIET_SETTINGS:
        os.environ.pop(name, None)
    executed = []
    monkeypatch.setattr(os, "execv", lambda path, command: executed.append((path, command)))

    def invoke(*arguments: str) -> list[str]:
        CliRunner().invoke(cli, ["worker", *arguments], catch_exceptions=False)
        path, command = executed.pop()
        assert path == command[0] == sys.executable
        return command[1:]

    return invoke


def test_a_worker_has_a_limit_and_the_settings(start):
    prefect = ["-m", "prefect", "worker", "start", "--pool", "cpu", "--type", "process"]
    assert start() == [*prefect, "--limit", str(default_worker_limit())]
    settings = {name: os.environ[name] for name in local_servers.QUIET_SETTINGS}
    assert settings == local_servers.QUIET_SETTINGS


def test_pool_limit_and_health_check_are_options(start):
    command = start("gpu", "--limit", "3", "--healthcheck")
    assert command[5] == "gpu"
    assert command[-3:] == ["--limit", "3", "--with-healthcheck"]


def test_without_a_server_the_missing_variable_is_named(start, monkeypatch):
    monkeypatch.delitem(os.environ, "PREFECT_API_URL")
    with pytest.raises(UsageError) as caught:
        start()
    assert caught.value.where == "PREFECT_API_URL is not set"
