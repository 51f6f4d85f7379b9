"""Whose process was killed: a lock in the state folder tells."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flowsheet.lifecycle.experiment.lock import exclusive, is_stale, lock_tag
from flowsheet.state.store import STORE

WORKER = """
import time
from flowsheet.lifecycle.experiment.lock import exclusive, lock_tag
with exclusive("a" * 64, print):
    print(lock_tag("a" * 64), flush=True)
    time.sleep(600)
"""


def is_abandoned(mark: str) -> bool:
    with is_stale(mark) as gone:
        return gone


def test_a_process_is_seen_until_it_is_killed(flowsheet_home: Path):
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout
        mark = worker.stdout.readline().strip()
        assert mark == lock_tag("a" * 64)
        assert str(flowsheet_home) not in mark
        assert not is_abandoned(mark)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert is_abandoned(mark)


def test_nobody_takes_the_work_up_while_it_is_being_buried():
    with exclusive("a" * 64, print):
        mark = lock_tag("a" * 64)
    said: list[str] = []
    with is_stale(mark) as gone:
        assert gone
        assert not is_abandoned(mark)
    with exclusive("a" * 64, said.append):
        assert not said


def test_of_other_folders_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with exclusive("a" * 64, print):
        mark = lock_tag("a" * 64)
    assert is_abandoned(mark)
    monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / "another"))
    assert not is_abandoned(mark)
    assert not is_abandoned("")
    assert not is_abandoned(lock_tag("b" * 64).partition(":")[0])


def test_a_store_elsewhere_that_is_gone_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(STORE, str(tmp_path / "store"))
    with exclusive("a" * 64, print):
        mark = lock_tag("a" * 64)
        assert not is_abandoned(mark)
    (tmp_path / "store").rename(tmp_path / "moved")
    assert is_abandoned(mark)
