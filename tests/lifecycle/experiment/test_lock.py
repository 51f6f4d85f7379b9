"""Runs whose process was killed are recognised by their lock."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flowsheet.lifecycle.experiment.lock import exclusive, is_stale, lock_tag
from flowsheet.state.store import STORE

FINGERPRINT = "a" * 64
WORKER = f"""
import time
from flowsheet.lifecycle.experiment.lock import exclusive, lock_tag
with exclusive("{FINGERPRINT}", print):
    print(lock_tag("{FINGERPRINT}"), flush=True)
    time.sleep(600)
"""


def stale(tag: str) -> bool:
    with is_stale(tag) as result:
        return result


def test_a_lock_becomes_stale_when_its_process_is_killed(flowsheet_home: Path):
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as worker:
        assert worker.stdout
        tag = worker.stdout.readline().strip()
        assert tag == lock_tag(FINGERPRINT)
        assert str(flowsheet_home) not in tag
        assert not stale(tag)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert stale(tag)


def test_a_stale_lock_cannot_be_acquired_inside_the_block():
    with exclusive(FINGERPRINT, print):
        tag = lock_tag(FINGERPRINT)
    with is_stale(tag) as result:
        assert result
        assert not stale(tag)
    messages: list[str] = []
    with exclusive(FINGERPRINT, messages.append):
        assert not messages


def test_locks_of_other_state_folders_never_count_as_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with exclusive(FINGERPRINT, print):
        tag = lock_tag(FINGERPRINT)
    assert stale(tag)
    monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / "another"))
    assert not stale(tag)
    assert not stale("")
    assert not stale(lock_tag("b" * 64).partition(":")[0])


def test_a_lock_in_a_deleted_store_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(STORE, str(tmp_path / "store"))
    with exclusive(FINGERPRINT, print):
        tag = lock_tag(FINGERPRINT)
        assert not stale(tag)
    (tmp_path / "store").rename(tmp_path / "moved")
    assert stale(tag)
