"""Optuna storages that lose no finished trial when a process is killed.

A journal file where one process works on a study at a time, a database where several do.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from flowsheet.errors import Unreachable, UsageError
from flowsheet.state.hashing import digest
from flowsheet.state.home import home
from flowsheet.state.locks import exclusive_lock, file_lock

OPTUNA_URL = "FLOWSHEET_OPTUNA_URL"
"""Environment variable: the database on which several workers tune one study. It contains a
password and is not recorded."""

_CHECKSUM = "sha256"
"""Key of a journal's line that Optuna does not read."""

HEARTBEAT_SECONDS = 10
GRACE_SECONDS = 60
"""A worker without a heartbeat for this long is dead; threads of a busy machine wait less."""


class KernelLock(JournalFileOpenLock):
    """A lock that the kernel frees when its process dies; Optuna's own would block others 30 s."""

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


class ChainedJournal(JournalFileBackend):
    """A journal in which each line has the sha256 of the line before it and of itself."""

    def __init__(self, path: Path, lock: JournalFileOpenLock) -> None:
        super().__init__(str(path), lock_obj=lock)
        *_, self._last = ["", *_read_chain(path)]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines; the caller has the journal to itself."""
        chained, last = [], self._last
        for log in logs:
            last = digest([last, log])
            chained.append({**log, _CHECKSUM: last})
        super().append_logs(chained)
        self._last = last


def is_journal_intact(folder: Path) -> bool:
    """Whether each complete line of the journal in the folder is as it was written."""
    path = folder / "study.journal"
    if not path.exists():
        return True
    previous = ""
    try:
        for line in path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):  # left by a kill
                return True
            log = json.loads(line)
            recorded = log.pop(_CHECKSUM)
            if digest([previous, log]) != recorded:
                return False
            previous = recorded
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return True


def _read_chain(path: Path) -> list[str]:
    return [json.loads(line)[_CHECKSUM] for line in path.read_bytes().splitlines()]


def open_journal(folder: Path) -> JournalStorage:
    """The journal in the folder, which is intact (:func:`is_journal_intact`).

    An incomplete last line, left by a kill or a full disk, is removed: its write was not confirmed.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        path = folder / "study.journal"
        lock = KernelLock(folder / "study.journal.lock")
        _remove_incomplete_line(path, lock)
        return JournalStorage(ChainedJournal(path, lock))


def open_database(url: str) -> RDBStorage:
    """The database at ``url``, with heartbeats of the workers; missing tables are created.

    Raises:
        UsageError: the URL is not valid, or its driver is not installed.
        Unreachable: the database cannot be reached. No message contains the password.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    url_without_password = _hide_password(url)
    try:
        # The lock keeps two processes of this machine from creating the tables at the same time.
        with warnings.catch_warnings(), exclusive_lock(home() / ".optuna.lock"):
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
            where=url_without_password,
            todo="install flowsheet[postgres] and write the URL as postgresql+psycopg://",
        ) from None
    except (SQLAlchemyError, StorageInternalError):
        raise Unreachable(
            "the Optuna database cannot be reached",
            where=url_without_password,
            todo=f"check the server and ${OPTUNA_URL}",
        ) from None


def _hide_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        raise UsageError(
            f"{OPTUNA_URL} is not the URL of a database", todo="postgresql+psycopg://USER:..."
        ) from None


def _remove_incomplete_line(path: Path, lock: KernelLock) -> None:
    if not path.exists():
        return
    lock.acquire()
    try:
        text = path.read_bytes()
        complete = text.rfind(b"\n") + 1
        if complete < len(text):
            os.truncate(path, complete)
    finally:
        lock.release()
