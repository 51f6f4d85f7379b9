"""Interruption by SIGTERM, and worker processes that end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowsheet.lifecycle.runtime.processes import interruptible

PARENT = """
import multiprocessing, os, time
from flowsheet.lifecycle.runtime.processes import exit_with_parent

def work(parent_pid):
    exit_with_parent(parent_pid)
    time.sleep(600)

worker = multiprocessing.get_context("fork").Process(target=work, args=(os.getpid(),))
worker.start()
print(worker.pid, flush=True)
time.sleep(600)
"""


def test_sigterm_interrupts_the_block_and_the_former_handler_is_restored():
    def terminate_itself():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interruptible():
        terminate_itself()
    assert signal.getsignal(signal.SIGTERM) is before


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "State:\tZ" not in status


def test_a_worker_ends_when_its_parent_is_killed():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as parent:
        assert parent.stdout
        worker_pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 30
        while is_running(worker_pid):
            assert time.monotonic() < deadline, "the worker outlived its parent"
            time.sleep(0.1)
