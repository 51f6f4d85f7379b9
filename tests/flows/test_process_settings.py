"""The process of a flow run on a worker: settings have an effect, lost output does not end it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from flowsheet.lifecycle.runtime.local_servers import QUIET_SETTINGS
from tests.conftest import ROOT

# What a worker's process does: Prefect is loaded, then the module of the flow, then the flow runs.
FLOW_RUN = """
import json, logging, os, sys
from pathlib import Path
from prefect.settings import get_current_settings
from prefect.logging import get_logger

def read():
    client = get_current_settings().client
    return [client.max_retries, sorted(client.retry_extra_codes)]

before = read()
from flows.process_settings import prepare_flow_process
prepare_flow_process()
from flowsheet.progress import report
for _ in range(3):
    get_logger("flow_runs").critical("a line of Prefect's")
    print("a line of a library's", file=sys.stderr)
    print("a line of a library's", flush=True)
    report("a line of ours")
get_logger("flow_runs").critical("no such character: \\u2265")
Path(sys.argv[1]).write_text(json.dumps({"before": before, "after": read()}))
"""


def run_in_worker_process(out: Path, **environment: str) -> dict[str, list]:
    """Execute the flow run with output that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    unset = {name: value for name, value in os.environ.items() if name not in QUIET_SETTINGS}
    unset.pop("PYTHONPATH", None)
    try:
        completed = subprocess.run(
            [sys.executable, "-c", FLOW_RUN, str(out)],
            env={**unset, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "LC_ALL": "C", **environment},
            stdout=writer,
            stderr=writer,
            timeout=120,
            check=False,
        )
    finally:
        os.close(writer)
    assert out.exists(), f"the process ended with {completed.returncode}"
    return json.loads(out.read_text(encoding="utf-8"))


def test_settings_have_an_effect_after_prefect_is_loaded_and_lost_output_ends_nothing(tmp_path):
    settings = run_in_worker_process(tmp_path / "settings.json", PYTHONUTF8="0")
    assert settings["before"] == [5, []]  # without this, the test would show nothing
    assert settings["after"] == [6, [500, 504]]


def test_settings_of_the_user_are_kept(tmp_path):
    settings = run_in_worker_process(
        tmp_path / "settings.json", PREFECT_CLIENT_MAX_RETRIES="2", PYTHONUTF8="0"
    )
    assert settings["after"] == [2, [500, 504]]
