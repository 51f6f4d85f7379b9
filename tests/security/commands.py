"""Helpers that run ``flowsheet`` as a user would."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

SMALL_EXPERIMENT = [
    "demo",
    "cohort=simulated_small",
    "models=[logistic_regression]",
    "models.logistic_regression.trials=1",
    "evaluation.resamples=20",
]
"""Arguments of ``flowsheet run``."""

_START_SECONDS = 180


def run_flowsheet(
    home: Path, *arguments: str, env: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """The finished command; no server is configured but those in ``env``."""
    prefixes = ("PREFECT_", "MLFLOW_", "FLOWSHEET_")
    bare = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return subprocess.run(
        [sys.executable, "-m", "flowsheet", *arguments],
        env={**bare, **env, "FLOWSHEET_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        encoding="utf-8",
    )


@contextlib.contextmanager
def start_flowsheet(*arguments: str, until: str) -> Iterator[int]:
    """The process id of a running command, once it has printed a line with ``until``."""
    command = [sys.executable, "-m", "flowsheet", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    ) as process:
        killer = threading.Timer(_START_SECONDS, process.kill)
        killer.start()
        try:
            printed = []
            for line in process.stdout or ():
                printed.append(line)
                if until in line:
                    break
            assert process.poll() is None, "".join(printed)
            yield process.pid
        finally:
            killer.cancel()
            process.send_signal(signal.SIGTERM)
            process.wait(60)
