"""A stage of an experiment: made once for the content it depends on, then found again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from flowsheet.config import FrozenModel
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.publish import publish
from flowsheet.state.store import Store

Progress = Callable[[str], None]
_ABOUT = "stage.json"


class Stage(FrozenModel):
    """A reference to a finished stage: small enough to hand between processes and machines."""

    kind: str
    key: str
    path: str
    reused: bool
    seconds: float
    """What making it took, also when it was made by an earlier run."""

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return Path(self.path)


def run_stage(kind: str, key: str, make: Callable[[Path], None]) -> Stage:
    """The stage of that key: found in the store, or made by filling the folder that ``make`` is
    given.

    Two runs that want the same stage make it once; a killed one leaves nothing that counts as made,
    and one that has lost some of its contents is made again.
    """
    store = Store.open()
    with store.lock(kind, key):
        path, reused = store.path(kind, key), is_complete(kind, key)
        if not reused:
            if store.has(kind, key):
                print(
                    f"[{kind}] {path} has lost some of its contents; it is made again",
                    file=sys.stderr,
                    flush=True,
                )
            started = time.perf_counter()
            with publish(path) as folder:
                make(folder)
                about = {
                    "key": key,
                    "seconds": round(time.perf_counter() - started, 3),
                    "files": _sizes(folder),
                }
                write_json(folder / _ABOUT, about)
        return Stage(
            kind=kind,
            key=key,
            path=str(path),
            reused=reused,
            seconds=read_json(path / _ABOUT)["seconds"],
        )


def is_complete(kind: str, key: str) -> bool:
    """Whether the store holds the stage of that key, with files as long as they were written.

    Where the power failed just after a stage was made, a disk can have kept its names without their
    contents.
    """
    store = Store.open()
    try:
        written: dict[str, int] = read_json(store.path(kind, key) / _ABOUT).get("files", {})
    except (OSError, ValueError, AttributeError):
        return False
    return written.items() <= _sizes(store.path(kind, key)).items()


def _sizes(folder: Path) -> dict[str, int]:
    return {
        str(file.relative_to(folder)): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
