"""The command line as a user meets it: a process of its own, on a state folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Flowsheet = Callable[..., subprocess.CompletedProcess[str]]
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
"""An experiment of some seconds, over real servers."""


def command(home: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """What starts the command line on a state folder."""
    environment = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PREFECT_", "MLFLOW_", "FLOWSHEET_"))
    }
    return [sys.executable, "-m", "flowsheet", *arguments], {
        **environment,
        "FLOWSHEET_HOME": str(home),
    }


def flowsheet(
    home: Path, *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    line, environment = command(home, *arguments)
    return subprocess.run(
        line, env=environment, capture_output=True, text=True, timeout=600, cwd=cwd, check=False
    )


def ask(api: str, path: str, body: dict[str, Any]) -> Any:
    """POST to the Prefect API."""
    request = urllib.request.Request(
        f"{api}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of an experiment that ran through."""
    home = tmp_path_factory.mktemp("finished")
    done = flowsheet(home, "run", *SMALL)
    assert done.returncode == 0, done.stderr
    return home
