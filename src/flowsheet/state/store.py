"""The content-addressed store of finished stages.

A folder in the store is named by the digest of its inputs. It is filled under a temporary name and
renamed when it is complete, so that readers never find an incomplete one. With a lock per key, two
runs that need the same stage compute it once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flowsheet.state.folder_id import read_folder_id
from flowsheet.state.home import home, make_private_dir
from flowsheet.state.leases import hold_lease
from flowsheet.state.locations import parse_location
from flowsheet.state.locks import exclusive_lock
from flowsheet.state.object_store import RemoteFolder

STORE = "FLOWSHEET_STORE"
"""Environment variable: another folder for the store alone, such as one on a larger disk, or one in
an object store that several machines share."""


def shared_folder() -> RemoteFolder | None:
    """The folder in an object store that ``FLOWSHEET_STORE`` names; None if it names none."""
    location = parse_location(os.environ.get(STORE) or "")
    return location if isinstance(location, RemoteFolder) else None


@dataclass(frozen=True)
class Store:
    """Content-addressed folders: ``root/<kind>/<key>/``, each complete or absent."""

    root: Path
    remote: RemoteFolder | None = None
    """Where finished stages are shared; ``root`` then has this machine's copies."""

    @classmethod
    def open(cls) -> Store:
        """The store under ``FLOWSHEET_HOME``, or the one that ``FLOWSHEET_STORE`` names."""
        remote = shared_folder()
        configured = None if remote else os.environ.get(STORE)
        root = Path(configured or home() / "store").absolute()
        with contextlib.suppress(OSError):  # it is reported where something is written
            make_private_dir(root)
        return cls(root, remote)

    def path(self, kind: str, key: str) -> Path:
        """The path of that key's folder, whether or not it exists."""
        return self.root / kind / key[:16]

    def has(self, kind: str, key: str) -> bool:
        """Whether the folder exists; an existing folder is complete."""
        return self.path(kind, key).is_dir()

    @contextlib.contextmanager
    def lock(
        self, kind: str, key: str, on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """A lock on the key, for the time from :meth:`has` to the end of writing.

        ``on_wait`` is called once if another process, here or on another machine, holds the lock.
        """
        with contextlib.ExitStack() as locks:
            locks.enter_context(self.local_lock(kind, key, on_wait))
            if self.remote:
                name = f".leases/{kind}-{key[:16]}"
                lease = hold_lease(self.remote, name, read_folder_id(home()), on_wait)
                locks.enter_context(lease)
            yield

    def local_lock(
        self, kind: str, key: str, on_wait: Callable[[], None] = lambda: None
    ) -> contextlib.AbstractContextManager[None]:
        """A lock on the key between processes with the same folder :attr:`root`."""
        return exclusive_lock(self.lock_path(kind, key), on_wait)

    def lock_path(self, kind: str, key: str) -> Path:
        """The file of :meth:`lock`."""
        return self.root / ".locks" / f"{kind}-{key[:16]}"

    def work_dir(self, kind: str, key: str) -> Path:
        """A folder for unfinished work on the key (journals, checkpoints); it survives a kill."""
        path = self.root / ".work" / f"{kind}-{key[:16]}"
        path.mkdir(parents=True, exist_ok=True)
        return path
