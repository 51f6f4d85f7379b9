"""Where state lives, and how it gets there whole or not at all.

Everything that a run leaves behind is a folder in the store under ``FLOWSHEET_HOME``, named by the
content that made it. A folder is filled under a temporary name and renamed when it is complete, so a
reader never meets half of one; a lock per key lets two runs that want the same thing make it once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowsheet.errors import FlowsheetError, UsageError

STORE = "FLOWSHEET_STORE"
"""Names another folder for the store alone, such as a disk with more room."""


def home() -> Path:
    """The state folder: ``$FLOWSHEET_HOME``, by default ``./.flowsheet``; made when missing.

    Raises:
        UsageError: the folder cannot be made or written to.
    """
    path = Path(os.environ.get("FLOWSHEET_HOME") or ".flowsheet").absolute()
    probe = path / f".probe-{uuid.uuid4().hex}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        raise UsageError(
            f"FLOWSHEET_HOME cannot be written to: {error.strerror or error}",
            where=str(path),
            todo="set FLOWSHEET_HOME to a folder that you may write to, on a disk with room",
        ) from error
    return path


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


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old text or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text())


@contextlib.contextmanager
def publish(target: Path) -> Iterator[Path]:
    """Fill a temporary folder beside ``target``; it becomes ``target`` when the block ends well.

    An existing ``target`` is replaced only then. After an error nothing is left behind.

    Raises:
        FlowsheetError: the disk is full or not writable.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        old = target.with_name(f"{temporary.name}.old")
        if target.exists():
            target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise FlowsheetError(  # numpy's short writes carry no errno
            f"could not write: {error.strerror or error}", where=str(target), todo="make room or choose another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock file exclusively; it is freed when the process ends, however it ends.

    ``waiting`` is called once when somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold an existing file or folder while the block lasts; False where a living process does already."""
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        except BlockingIOError:
            mine = False
        yield mine
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Store:
    """Content-addressed folders: ``root/<kind>/<key>/``, each complete or absent."""

    root: Path

    @classmethod
    def open(cls) -> Store:
        """The store under ``FLOWSHEET_HOME``, or the one that ``FLOWSHEET_STORE`` names."""
        return cls(Path(os.environ.get(STORE) or home() / "store").absolute())

    def path(self, kind: str, key: str) -> Path:
        """Where the folder of that key is, or would be."""
        return self.root / kind / key[:16]

    def has(self, kind: str, key: str) -> bool:
        """Whether the folder is there; being there means being complete."""
        return self.path(kind, key).is_dir()

    def lock(
        self, kind: str, key: str, waiting: Callable[[], None] = lambda: None
    ) -> contextlib.AbstractContextManager[None]:
        """A lock on the key, to hold while asking ``has`` and filling; see :func:`locked`."""
        return locked(self.lock_path(kind, key), waiting)

    def lock_path(self, kind: str, key: str) -> Path:
        """The file that :meth:`lock` holds."""
        return self.root / ".locks" / f"{kind}-{key[:16]}"

    def work(self, kind: str, key: str) -> Path:
        """A folder for unfinished work on the key (journals, checkpoints) that survives a kill."""
        path = self.root / ".work" / f"{kind}-{key[:16]}"
        path.mkdir(parents=True, exist_ok=True)
        return path
