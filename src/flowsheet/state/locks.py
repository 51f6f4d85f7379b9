"""Locks between processes. The kernel frees each when its process ends, however it ends.

All of them use ``flock``, so that they exclude each other on the same file. None truncates or
deletes the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout


def file_lock(path: Path) -> FileLock:
    """A lock on the file, which is created when it is missing.

    A file system without ``flock`` is an error: filelock's substitute, a file that marks the lock,
    would outlive a killed process.
    """
    return FileLock(path, fallback_to_soft=False)


@contextlib.contextmanager
def exclusive_lock(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock for the duration of the block.

    ``on_wait`` is called once if another process holds it.
    """
    lock = file_lock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        on_wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


# filelock offers neither of the following: it creates a missing file, cannot open a folder or a
# read-only file, and has no flock that several processes share.


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Lock an existing file or folder during the block; False if another process holds it.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    with _open(path) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_locked = True
        except BlockingIOError:
            is_locked = False
        yield is_locked


@contextlib.contextmanager
def shared_lock(path: Path) -> Iterator[None]:
    """Lock an existing file or folder together with any number of other processes that share it.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    with _open(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    """A descriptor for ``flock``, writable if possible: NFS grants exclusive locks on no other."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except (IsADirectoryError, PermissionError):
        descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
