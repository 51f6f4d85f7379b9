"""Where a study's trials are written down, so that a kill at any moment loses none that was
finished.

A journal file where one process works on a study at a time, a database where several do.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from flowsheet.errors import Unreachable, UsageError
from flowsheet.state.home import home
from flowsheet.state.locks import exclusive_lock, file_lock

OPTUNA_URL = "FLOWSHEET_OPTUNA_URL"
"""Names the database on which several workers tune one study; it holds a password and is recorded nowhere."""

HEARTBEAT_SECONDS = 10
GRACE_SECONDS = 60
"""A worker that is silent for so long is held to be dead; longer than a busy machine keeps a thread waiting."""


class KernelLock(JournalFileOpenLock):
    """A lock that the kernel frees when its process dies; Optuna's own would wait 30 s for a dead one."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._lock = file_lock(path)

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._lock.acquire()
        return True

    def release(self) -> None:
        """Free the lock."""
        self._lock.release()


def open_journal(work: Path) -> JournalStorage:
    """The journal in ``work``.

    A last line that was cut short, by a kill or a full disk, is dropped: it was never acknowledged.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        path = work / "study.journal"
        lock = KernelLock(work / "study.journal.lock")
        _drop_cut_line(path, lock)
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def open_database(url: str) -> RDBStorage:
    """The database at ``url``, whose heartbeats tell dead workers' trials; its tables are made when
    there are none.

    Raises:
        UsageError: the URL cannot be read, or its driver is not installed.
        Unreachable: the database cannot be reached. No message shows the password.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    shown = _shown(url)
    try:
        with (
            warnings.catch_warnings(),
            exclusive_lock(home() / ".optuna.lock"),
        ):  # two would make the tables at once
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return RDBStorage(
                url,
                engine_kwargs={"pool_pre_ping": True},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
            )
    except ImportError as error:
        raise UsageError(
            f"the driver of the Optuna database is not installed: {error.name}",
            where=shown,
            todo="install flowsheet[postgres] and write the URL as postgresql+psycopg://",
        ) from None
    except (SQLAlchemyError, StorageInternalError):
        raise Unreachable(
            "the Optuna database cannot be reached",
            where=shown,
            todo=f"look at the server, or at ${OPTUNA_URL}",
        ) from None


def _shown(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        raise UsageError(
            f"{OPTUNA_URL} is not the URL of a database", todo="postgresql+psycopg://USER:..."
        ) from None


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
