"""The command line as users run it: in its own process, with its own state folder."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from flowsheet.cli import main
from tests.prefect_database import copy_database

SMALL = [
    "demo",
    "cohort=simulated_small",
    "models=[logistic_regression,lstm]",
    "models.lstm.params.hidden=8",
    "models.lstm.params.epochs=3",
    "models.lstm.trials=3",
    "models.logistic_regression.trials=2",
    "evaluation.resamples=50",
]
"""An experiment that takes some seconds."""
LONG_TRAINING = [*SMALL, "models.lstm.params.epochs=1000", "models.lstm.params.patience=1000"]
"""An experiment that goes on until it is stopped."""


def inherited_environment() -> dict[str, str]:
    """This process's environment without settings of servers and folders."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "MLFLOW_", "FLOWSHEET_"))
    }


def flowsheet_command(home: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment that run the command line with a state folder."""
    command = [sys.executable, "-m", "flowsheet", *arguments]
    return command, {**inherited_environment(), "FLOWSHEET_HOME": str(home)}


def run_flowsheet(
    home: Path, *arguments: str, cwd: Path | None = None, seconds: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run the command line until it exits."""
    command, environment = flowsheet_command(home, *arguments)
    return subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=cwd,
        check=False,
        encoding="utf-8",
    )


@dataclass(frozen=True)
class CommandResult:
    """What a command of the command line returned and printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call_flowsheet(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., CommandResult]:
    """Call the command line in this process, which has the libraries imported already."""

    def call(home: Path, *arguments: str) -> CommandResult:
        for name in set(os.environ) - set(inherited_environment()):
            monkeypatch.delenv(name)
        monkeypatch.setenv("FLOWSHEET_HOME", str(home))
        capfd.readouterr()
        code = 0
        try:
            main(list(arguments))
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capfd.readouterr()
        return CommandResult(code, captured.out, captured.err)

    return call


def log_in(api: str) -> dict[str, str]:
    """Headers with the login and the token that the Prefect server of a state folder requires."""
    login = base64.b64encode(os.environ["PREFECT_API_AUTH_STRING"].encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Prefect-Csrf-Client": str(uuid.uuid4())}
    url = f"{api}/csrf-token?client={headers['Prefect-Csrf-Client']}"
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return {**headers, "Prefect-Csrf-Token": json.load(response)["token"]}


def post(
    api: str, path: str, body: dict[str, Any], headers: Mapping[str, str] | None = None
) -> Any:
    """POST JSON to a server's API."""
    request = urllib.request.Request(
        f"{api}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **(headers or {})},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, prefect_database: Path) -> Path:
    """The state folder of a finished experiment: a copy of what one worker made for all."""
    shared = tmp_path_factory.getbasetemp().parent / "finished"
    with FileLock(shared.with_suffix(".lock")):
        if not shared.exists():
            home = tmp_path_factory.mktemp("unfinished") / "home"
            copy_database(prefect_database, home)
            result = run_flowsheet(home, "run", *SMALL)
            assert result.returncode == 0, result.stderr
            home.rename(shared)
    return Path(shutil.copytree(shared, tmp_path_factory.mktemp("finished") / "home"))
