"""``flowsheet ls runs`` closes runs whose process has ended without a word."""

from __future__ import annotations

import json
import time

from click.testing import CliRunner

from flowsheet.cli import cli
from flowsheet.lifecycle.runtime.dead_runs import DEAD_RUN_MINUTES
from flowsheet.tracking.store import artifact_root, connect


def test_a_dead_run_is_no_longer_running(monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    client = connect()
    experiment = client.create_experiment("ward", artifact_location=artifact_root())
    start_time = int((time.time() - 20 * 60) * 1000)
    tags = {"flowsheet.level": "experiment"}
    run = client.create_run(experiment, start_time=start_time, tags=tags)

    def list_status() -> str:
        (row,) = json.loads(CliRunner().invoke(cli, ["ls", "runs", "--json"]).output)
        assert row["run"] == run.info.run_id
        return row["status"]

    monkeypatch.setenv(DEAD_RUN_MINUTES, "30")
    assert list_status() == "running"
    monkeypatch.delenv(DEAD_RUN_MINUTES)
    assert list_status() == "killed"
