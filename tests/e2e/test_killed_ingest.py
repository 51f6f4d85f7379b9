"""An ingest in worker processes, and the next one after it was killed: the same extract."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cohort.divided_ingest import read_files
from tests.e2e.conftest import flowsheet_command, run_flowsheet
from tests.e2e.test_interrupt import wait_until_no_process_is_left
from tests.prefect_database import copy_database

pytestmark = [pytest.mark.server, pytest.mark.slow]
STAYS = 60
STAYS_PER_GROUP = 2


@contextmanager
def half_done(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command whose workers have built a group of stays, and have more to build."""
    command, environment = flowsheet_command(home, *arguments)
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, encoding="utf-8")
    try:
        deadline = time.monotonic() + 300
        while not list((home / "spill").glob("*/checked-*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


def find_worker(parent: int) -> int:
    """One of the worker processes of a process."""
    for thread in Path(f"/proc/{parent}/task").iterdir():
        for child in (thread / "children").read_text(encoding="utf-8").split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    raise AssertionError("there is no worker process")


def test_killed_processes_leave_no_rows_behind_and_change_nothing(
    tmp_path: Path, prefect_database: Path
):
    home, raw = tmp_path / "home", tmp_path / "raw"
    copy_database(prefect_database, home)
    simulated = run_flowsheet(home, "simulate", str(raw), "--as", "mimic3", "--stays", str(STAYS))
    assert simulated.returncode == 0, simulated.stderr
    options = (f"cohort.options.stays_per_batch={STAYS_PER_GROUP}", "cohort.allow_empty=true")
    ingest = ("ingest", "mimic3", str(raw), *options, "--out")
    in_workers = (*ingest, str(tmp_path / "several"), "--workers", "2")

    with half_done(home, *in_workers) as process:
        process.kill()
    wait_until_no_process_is_left(home)
    assert list((home / "spill").iterdir())

    one = run_flowsheet(home, *ingest, str(tmp_path / "one"))
    assert one.returncode == 0, one.stderr
    assert not list((home / "spill").iterdir())
    assert not (tmp_path / "several").exists()

    with half_done(home, *in_workers) as process:
        os.kill(find_worker(process.pid), signal.SIGKILL)
        _, log = process.communicate(timeout=300)
    assert process.returncode == 0, log
    assert "a process of ingest was killed" in log
    assert "Traceback" not in log
    assert not list((home / "spill").iterdir())
    assert read_files(tmp_path / "several") == read_files(tmp_path / "one")
