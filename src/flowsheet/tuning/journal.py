"""Where a study's trials are written down, so that a kill at any moment loses none that was finished."""

from __future__ import annotations

import fcntl
import os
import warnings
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock


class KernelLock(JournalFileOpenLock):
    """A lock that the kernel frees when its process dies; Optuna's own would wait 30 s for a dead one."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path, self._handle = path, -1

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._handle = os.open(self._path, os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Free the lock."""
        os.close(self._handle)


def open_storage(work: Path, url: str | None = None) -> BaseStorage:
    """The journal in ``work``, or the shared database at ``url`` (whose heartbeat tells dead workers' trials).

    A last line that was cut short, by a kill or a full disk, is dropped: it was never acknowledged.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if url is not None:
            return optuna.storages.RDBStorage(url, heartbeat_interval=60)
        path = work / "study.journal"
        lock = KernelLock(work / "study.journal.lock")
        _drop_cut_line(path, lock)
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _drop_cut_line(path: Path, lock: KernelLock) -> None:
    if not path.exists():
        return
    lock.acquire()
    try:
        text = path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            os.truncate(path, whole)
    finally:
        lock.release()
