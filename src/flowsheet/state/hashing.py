"""Fingerprints of values and files."""

from __future__ import annotations

import hashlib
import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

_SETTLED_NS = 2_000_000_000
"""The age of a file's last change from which on a further one gets another time for certain."""


def digest(value: Any) -> str:
    """sha256 of a JSON-like value; the order of keys does not matter.

    >>> digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_digest_once(path: Path) -> str:
    """As :func:`file_digest`, computed once in a process as long as the file is not changed."""
    status = path.stat()
    if time.time_ns() - status.st_ctime_ns < _SETTLED_NS:
        return file_digest(path)
    return _digest_as_of(path.absolute(), status.st_ino, status.st_size, status.st_ctime_ns)


@lru_cache(64)
def _digest_as_of(path: Path, inode: int, size: int, changed_ns: int) -> str:
    """The digest of a file, remembered by what a change of its content changes."""
    return file_digest(path)
