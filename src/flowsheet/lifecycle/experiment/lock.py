"""Who works on an experiment: a lock tells, which the kernel frees when its process ends.

The run that is recorded of an experiment names the lock and the state folder that it is in. Whoever
uses that folder can tell a run that goes on from one that was killed; of other folders' runs nobody
knows.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from flowsheet.lifecycle.experiment.stage import Progress
from flowsheet.state.home import home
from flowsheet.state.locks import exclusive_lock, try_lock
from flowsheet.state.store import Store

KIND = "experiment"


def exclusive(identity: str, progress: Progress) -> contextlib.AbstractContextManager[None]:
    """Hold the experiment: the same choices run once at a time."""
    return Store.open().lock(
        KIND, identity, lambda: progress("waiting: the same experiment is already running")
    )


def lock_tag(identity: str) -> str:
    """What a run is marked with while this process holds the experiment."""
    path = Store.open().lock_path(KIND, identity)
    return f"{_id()}:{path.relative_to(home()) if path.is_relative_to(home()) else path}"


@contextlib.contextmanager
def is_stale(holder: str) -> Iterator[bool]:
    """Whether no process holds the experiment that was marked so; if none does, none will while the block lasts."""
    owner, _, place = holder.partition(":")
    path = home() / place
    if owner != _id() or not place:
        yield False
    elif not path.is_file():  # a rerun's store, which is removed when it ends
        yield True
    else:
        with try_lock(path) as free:
            yield free


def _id() -> str:
    """The name of this state folder, wherever it is mounted."""
    file = home() / "id"
    with exclusive_lock(home() / ".id.lock"):
        if not file.is_file():
            file.write_text(uuid.uuid4().hex)
        return file.read_text()
