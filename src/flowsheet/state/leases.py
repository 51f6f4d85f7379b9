"""Leases: locks between machines that share nothing but an object store.

A lease is an object that its holder writes again every few seconds. A process that waits for it
watches its version: when that has not changed for as long as the lease lasts, the holder is dead,
and one of those who wait takes it over by a conditional write. No machine's clock is compared with
another's (the lock client of Amazon DynamoDB works like this).

A holder that is cut off may lose its lease without knowing it. So a lease only saves work: that
nothing is half written or mixed is up to the order of writing (``RemoteFolder``).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from flowsheet.errors import FlowsheetError, UsageError
from flowsheet.state.object_store import RemoteFolder, StoredBytes

LEASE_SECONDS = "FLOWSHEET_LEASE_SECONDS"
"""Environment variable: how long a lease lasts without a renewal; by default 60 s."""
_DEFAULT_SECONDS = 60.0
_MIN_SECONDS = 1.0
_RENEWALS = 4
"""Renewals in the time that a lease lasts."""
_RELEASE_SECONDS = 5.0
"""How long the end of a block waits for the release."""


@contextlib.contextmanager
def hold_lease(
    folder: RemoteFolder, name: str, holder: str, on_wait: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold a lease for the duration of the block.

    Args:
        folder: in which the lease is an object.
        name: of the object.
        holder: of whom no other process on this machine can hold or want the lease now, such as
            the id of a state folder in which a local lock excludes them: an older lease of theirs
            is a dead one. A copy of the folder on another machine has the same id.
        on_wait: called once if another holder has it.

    Raises:
        FlowsheetError: the object store does not answer, or refuses.
    """
    lease = _Lease(folder, name, holder, _lease_seconds())
    lease.acquire(on_wait)
    is_over = threading.Event()
    _start_thread(partial(lease.keep_renewing, is_over))
    try:
        yield
    finally:
        is_over.set()
        # during an outage it expires by itself, and Ctrl-C need not wait
        _start_thread(lease.release).join(_RELEASE_SECONDS)


@dataclass
class _Lease:
    folder: RemoteFolder
    name: str
    holder: str
    seconds: float
    owner: str = field(default_factory=lambda: uuid.uuid4().hex)
    is_lost: bool = False
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def acquire(self, on_wait: Callable[[], None]) -> None:
        """Wait until the lease is free or its holder is dead, and take it."""
        watched: StoredBytes | None = None
        since = 0.0
        while True:
            current = self.folder.read(self.name)
            if current is None:
                if self.folder.create(self.name, self._content()):
                    return
                continue
            if self._is_own(current) or self._is_dead(current, watched, since):
                if self.folder.replace(self.name, self._content(), current.version):
                    return
                continue
            if watched is None:
                on_wait()
            if watched is None or watched.version != current.version:
                watched, since = current, time.monotonic()
            time.sleep(min(1.0, self.seconds / _RENEWALS))

    def keep_renewing(self, is_over: threading.Event) -> None:
        """Renew the lease until it is over, or lost."""
        while not self.is_lost and not is_over.wait(self.seconds / _RENEWALS):
            with contextlib.suppress(FlowsheetError):  # tried again; others see it expire
                self._renew()

    def release(self) -> None:
        """Delete the lease, if it still is this one's."""
        with contextlib.suppress(FlowsheetError):
            # renewed just now, so no one takes it over before it is deleted
            if not self.is_lost and self._renew():
                self.folder.delete([self.name])
                return
            line = f"another machine took over {self.folder}/{self.name}: work was done twice"
            print(line, file=sys.stderr, flush=True)

    def _renew(self) -> bool:
        with self._mutex:
            current = self.folder.read(self.name)
            is_own = current is not None and self._fields(current).get("owner") == self.owner
            if current is None or not is_own:
                self.is_lost = True
                return False
            is_renewed = self.folder.replace(self.name, self._content(), current.version)
            self.is_lost = not is_renewed
            return is_renewed

    def _is_own(self, current: StoredBytes) -> bool:
        fields = self._fields(current)
        return (fields.get("holder"), fields.get("host")) == (self.holder, socket.gethostname())

    def _is_dead(self, current: StoredBytes, watched: StoredBytes | None, since: float) -> bool:
        if watched is None or watched.version != current.version:
            return False
        lasts = self._fields(current).get("seconds")
        seconds = lasts if isinstance(lasts, int | float) else self.seconds
        return time.monotonic() - since > seconds

    def _content(self) -> bytes:
        fields = {
            "owner": self.owner,
            "holder": self.holder,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "renewed": datetime.now(UTC).isoformat(),
            "seconds": self.seconds,
        }
        return json.dumps(fields).encode()

    @staticmethod
    def _fields(current: StoredBytes) -> dict[str, Any]:
        with contextlib.suppress(ValueError):
            fields = json.loads(current.content)
            if isinstance(fields, dict):
                return fields
        return {}


def _start_thread(action: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=action, name="lease", daemon=True)
    thread.start()
    return thread


def _lease_seconds() -> float:
    text = os.environ.get(LEASE_SECONDS) or str(_DEFAULT_SECONDS)
    with contextlib.suppress(ValueError):
        if _MIN_SECONDS <= float(text) < float("inf"):
            return float(text)
    raise UsageError(
        f"{LEASE_SECONDS} is not a number of seconds, or below {_MIN_SECONDS:g}",
        where=text,
        todo=f"set it to {_DEFAULT_SECONDS:g}, say",
    )
