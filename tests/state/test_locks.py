"""Locks exclude processes and threads, and the kernel frees them when a process is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowsheet.state.locks import exclusive_lock, shared_lock, try_lock


@contextmanager
def process_that_holds(lock: str, path: Path, then: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock, and does ``then`` while holding it, until it is killed."""
    code = f"""
import os, subprocess, sys, time
from pathlib import Path
from flowsheet.state.locks import exclusive_lock, shared_lock, try_lock
with {lock}(Path(sys.argv[1])):
    {then or "pass"}
    print("locked", flush=True)
    time.sleep(600)
"""
    arguments = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()


def is_free(path: Path) -> bool:
    with try_lock(path) as is_locked:
        return is_locked


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.lock"
    path.write_text("contents", encoding="utf-8")
    return path


@pytest.mark.parametrize("lock", ["exclusive_lock", "try_lock", "shared_lock"])
def test_kill_9_frees_the_lock(lock: str, path: Path):
    with process_that_holds(lock, path) as process:
        assert not is_free(path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert is_free(path)


def test_a_waiting_process_gets_the_lock_when_its_holder_is_killed(path: Path):
    waited = []
    with process_that_holds("exclusive_lock", path) as process:

        def kill() -> None:
            waited.append(True)
            process.send_signal(signal.SIGKILL)

        with exclusive_lock(path, on_wait=kill):
            assert waited == [True]


def test_a_child_process_does_not_inherit_the_lock(path: Path):
    start_child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(5)'])"
    with process_that_holds("exclusive_lock", path, then=start_child) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert is_free(path)


def test_a_forked_process_does_not_inherit_the_lock(path: Path):
    child = "[os.write(w, b'x'), time.sleep(5), os._exit(0)]"
    fork = f"r, w = os.pipe(); os.fork() or {child}; os.read(r, 1)"
    with process_that_holds("exclusive_lock", path, then=fork) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert is_free(path)


def test_waiting_is_not_reported_when_the_lock_is_free(path: Path):
    with exclusive_lock(path, on_wait=lambda: pytest.fail("waited")):
        assert not is_free(path)
    assert is_free(path)


def test_threads_of_one_process_exclude_each_other(path: Path):
    waits: list[str] = []
    waiting = threading.Event()

    def lock_too() -> None:
        with exclusive_lock(path, on_wait=waiting.set):
            waits.append("second")

    with exclusive_lock(path):
        second = threading.Thread(target=lock_too)
        second.start()
        assert waiting.wait(30)
        waits.append("first")
    second.join(30)
    assert waits == ["first", "second"]


def test_a_lock_is_freed_by_an_error_in_the_block(path: Path):
    with pytest.raises(RuntimeError), exclusive_lock(path):
        raise RuntimeError
    assert is_free(path)


def test_locking_creates_no_file_but_where_it_waits_for_the_lock(tmp_path: Path):
    missing = tmp_path / "folder" / "missing.lock"
    with pytest.raises(FileNotFoundError), try_lock(missing):
        pass
    with pytest.raises(FileNotFoundError), shared_lock(missing):
        pass
    assert not missing.parent.exists()
    with exclusive_lock(missing):
        assert missing.is_file()
    assert missing.is_file()


@pytest.mark.parametrize("lock", [exclusive_lock, try_lock, shared_lock])
def test_a_locked_file_keeps_its_contents(lock, path: Path):
    inode = path.stat().st_ino
    with lock(path):
        assert path.read_text(encoding="utf-8") == "contents"
    assert path.read_text(encoding="utf-8") == "contents"
    assert path.stat().st_ino == inode


def test_a_folder_and_a_read_only_file_can_be_locked(tmp_path: Path, path: Path):
    path.chmod(0o400)
    for each in (tmp_path, path):
        with try_lock(each) as is_locked:
            assert is_locked
            assert not is_free(each)
        assert is_free(each)


def test_a_shared_lock_excludes_only_exclusive_locks(path: Path):
    with shared_lock(path):
        with shared_lock(path):
            assert not is_free(path)
        assert not is_free(path)
    assert is_free(path)


def test_a_file_that_is_deleted_while_a_process_waits_is_created_again(path: Path):
    with exclusive_lock(path):
        path.unlink()
        with exclusive_lock(path.with_name("other")):
            pass
    with exclusive_lock(path):
        assert not is_free(path)


def test_the_descriptor_of_a_lock_is_closed(path: Path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for lock in (exclusive_lock, try_lock, shared_lock):
        with lock(path):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
