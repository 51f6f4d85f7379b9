"""Trainings of one machine begin only when the memory that they need together is there.

Every training that is running holds a lock on a file, whose name is the memory it needs.
The kernel releases the lock when the process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flowsheet.state.home import home, make_private_dir
from flowsheet.state.locks import exclusive_lock, try_lock
from flowsheet.state.memory import usable_memory
from flowsheet.typing import Progress

_POLL_SECONDS = 2.0
_RUNNING, _WAITING = "running", "waiting"


class _Reservation(NamedTuple):
    """The parts of a file's name."""

    state: str
    amount: int
    """Bytes; 0: the training runs alone."""

    @property
    def is_alone(self) -> bool:
        return self.amount == 0


@contextlib.contextmanager
def reserved_memory(
    amount: int, progress: Progress, *, alone: bool = False, total: int | None = None
) -> Iterator[None]:
    """Hold a reservation during the block, after waiting until the machine has room for it.

    A single training always begins, however much it needs.

    Args:
        amount: bytes that the training needs.
        progress: called with a line if the training has to wait.
        alone: whether no other training may run on this machine meanwhile.
        total: bytes of the machine; None: :func:`usable_memory`.
    """
    folder = home() / "memory" / socket.gethostname()
    make_private_dir(folder)
    needed = 0 if alone else max(1, amount)
    own = folder / f"{_WAITING}-{needed}-{uuid.uuid4().hex}"
    with contextlib.ExitStack() as locks:
        with exclusive_lock(folder / ".lock"):  # the file is locked before others see it
            locks.enter_context(exclusive_lock(own))
        try:
            own = _wait_for_room(folder, own, total or usable_memory(), progress)
            yield
        finally:
            own.unlink(missing_ok=True)


def _wait_for_room(folder: Path, own: Path, total: int, progress: Progress) -> Path:
    """Wait until the training may begin; returns the new path of its reservation."""
    reservation = _parse(own)
    is_reported = False
    while True:
        with exclusive_lock(folder / ".lock"):
            if _has_room(reservation, _list_others(folder, own), total):
                return own.rename(folder / own.name.replace(_WAITING, _RUNNING))
        if not is_reported:
            progress("waiting until other trainings of this machine have freed memory")
            is_reported = True
        time.sleep(_POLL_SECONDS)


def _has_room(reservation: _Reservation, others: list[_Reservation], total: int) -> bool:
    running = [other for other in others if other.state == _RUNNING]
    if not running and reservation.is_alone:
        return True
    if reservation.is_alone or any(other.is_alone for other in others):
        return False  # who waits to run alone comes first
    reserved = sum(other.amount for other in running)
    return not running or reserved + reservation.amount <= total


def _list_others(folder: Path, own: Path) -> list[_Reservation]:
    """The reservations of other processes that are alive; those of killed ones are removed."""
    others = []
    for path in sorted(folder.glob(f"{_RUNNING}-*")) + sorted(folder.glob(f"{_WAITING}-*")):
        if path == own:
            continue
        with contextlib.suppress(FileNotFoundError), try_lock(path) as is_free:
            if is_free:
                path.unlink()
            else:
                others.append(_parse(path))
    return others


def _parse(path: Path) -> _Reservation:
    state, amount, _ = path.name.split("-")
    return _Reservation(state, int(amount))
