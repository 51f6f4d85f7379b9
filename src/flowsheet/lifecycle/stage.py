"""A stage of an experiment: made once for the content it depends on, then found again."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from flowsheet.config import Frozen
from flowsheet.home import Store, publish, read_json, write_json

Progress = Callable[[str], None]


class Stage(Frozen):
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


def stage(kind: str, key: str, make: Callable[[Path], None]) -> Stage:
    """The stage of that key: found in the store, or made by filling the folder that ``make`` is given.

    Two runs that want the same stage make it once; a killed one leaves nothing that counts as made.
    """
    store = Store.open()
    with store.lock(kind, key):
        reused = store.has(kind, key)
        if not reused:
            started = time.perf_counter()
            with publish(store.path(kind, key)) as folder:
                make(folder)
                write_json(folder / "stage.json", {"key": key, "seconds": round(time.perf_counter() - started, 3)})
        path = store.path(kind, key)
        return Stage(
            kind=kind, key=key, path=str(path), reused=reused, seconds=read_json(path / "stage.json")["seconds"]
        )
