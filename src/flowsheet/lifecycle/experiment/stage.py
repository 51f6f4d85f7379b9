"""Stages of an experiment: built once for the content they depend on, then reused."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from flowsheet.config import FrozenModel
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.publish import publish
from flowsheet.state.store import Store

_METADATA_FILE = "stage.json"


class Stage(FrozenModel):
    """A reference to a finished stage: small enough to pass between processes and machines."""

    kind: str
    key: str
    path: str
    reused: bool
    seconds: float
    """How long the build took, also when an earlier run did it."""

    @property
    def folder(self) -> Path:
        """The folder with the stage's files."""
        return Path(self.path)


def run_stage(kind: str, key: str, build: Callable[[Path], None]) -> Stage:
    """Find the stage with this key in the store, or build it.

    Concurrent runs that need the same stage build it once. A run that is killed leaves no partial
    stage behind, and a stage with missing or truncated files is built again.

    Args:
        kind: folder of the store, such as "windows".
        key: digest of everything that the contents depend on.
        build: fills the folder that it is given.
    """
    store = Store.open()
    with store.lock(kind, key):
        path = store.path(kind, key)
        reused = is_complete(kind, key)
        if not reused:
            if store.has(kind, key):
                _warn(f"[{kind}] {path} has missing or truncated files; building it again")
            _build(path, key, build)
        seconds = read_json(path / _METADATA_FILE)["seconds"]
        return Stage(kind=kind, key=key, path=str(path), reused=reused, seconds=seconds)


def is_complete(kind: str, key: str) -> bool:
    """Whether the store has the stage with this key, with every file in its original length.

    After a power failure, a disk may have kept the names of new files but not their contents.
    """
    path = Store.open().path(kind, key)
    try:
        written: dict[str, int] = read_json(path / _METADATA_FILE).get("files", {})
    except (OSError, ValueError, AttributeError):
        return False
    return written.items() <= _file_sizes(path).items()


def _build(path: Path, key: str, build: Callable[[Path], None]) -> None:
    started = time.perf_counter()
    with publish(path) as folder:
        build(folder)
        metadata = {
            "key": key,
            "seconds": round(time.perf_counter() - started, 3),
            "files": _file_sizes(folder),
        }
        write_json(folder / _METADATA_FILE, metadata)


def _file_sizes(folder: Path) -> dict[str, int]:
    return {
        str(file.relative_to(folder)): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _warn(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
