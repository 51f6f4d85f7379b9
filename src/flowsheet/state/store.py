"""The content-addressed store of finished stages.

A folder in the store is named by the content that made it. It is filled under a temporary name and
renamed when it is complete, so a reader never meets half of one; a lock per key lets two runs that
want the same thing make it once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flowsheet.state.home import home
from flowsheet.state.locks import exclusive_lock

STORE = "FLOWSHEET_STORE"
"""Names another folder for the store alone, such as a disk with more room."""


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
        self, kind: str, key: str, on_wait: Callable[[], None] = lambda: None
    ) -> contextlib.AbstractContextManager[None]:
        """A lock on the key, to hold while asking ``has`` and filling; see :func:`exclusive_lock`."""
        return exclusive_lock(self.lock_path(kind, key), on_wait)

    def lock_path(self, kind: str, key: str) -> Path:
        """The file that :meth:`lock` holds."""
        return self.root / ".locks" / f"{kind}-{key[:16]}"

    def work(self, kind: str, key: str) -> Path:
        """A folder for unfinished work on the key (journals, checkpoints) that survives a kill."""
        path = self.root / ".work" / f"{kind}-{key[:16]}"
        path.mkdir(parents=True, exist_ok=True)
        return path
