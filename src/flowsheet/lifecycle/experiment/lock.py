"""One lock for each experiment: identical runs wait for each other, and killed runs are found.

An experiment's MLflow run is tagged with the path of its lock and the id of the state folder that
contains it. The kernel releases the lock when the process ends, so a process that uses the same
state folder can check whether the run is still active. For runs of other state folders it cannot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from flowsheet.lifecycle.runtime.dead_runs import dead_run_minutes
from flowsheet.state.folder_id import read_folder_id
from flowsheet.state.home import home
from flowsheet.state.locks import try_lock
from flowsheet.state.store import Store
from flowsheet.tracking.runs import Tracker
from flowsheet.typing import Progress

KIND = "experiment"


def close_dead_runs(minutes: float | None = None) -> None:
    """Close the MLflow runs whose process has ended without a word.

    Args:
        minutes: for runs without a lock: since their start; None: :func:`dead_run_minutes`.
    """
    Tracker.open().close_stale_runs(is_stale, minutes or dead_run_minutes())


def exclusive(fingerprint: str, progress: Progress) -> contextlib.AbstractContextManager[None]:
    """Lock the experiment; wait while another process runs the same one."""
    return Store.open().lock(
        KIND, fingerprint, lambda: progress("waiting: the same experiment is already running")
    )


def lock_tag(fingerprint: str) -> str:
    """The MLflow tag ``flowsheet.run_lock`` of a run: state folder id and path of the lock."""
    path = Store.open().lock_path(KIND, fingerprint)
    relative_path = path.relative_to(home()) if path.is_relative_to(home()) else path
    return f"{_state_folder_id()}:{relative_path}"


@contextlib.contextmanager
def is_stale(tag: str) -> Iterator[bool]:
    """Whether the process that ran the experiment with this lock tag has ended.

    If so, no other process can start the experiment inside the block.
    """
    folder_id, _, relative_path = tag.partition(":")
    path = home() / relative_path
    if folder_id != _state_folder_id() or not relative_path:
        yield False
    elif not path.is_file():  # the store of a rerun, which is removed when the rerun ends
        yield True
    else:
        with try_lock(path) as is_free:
            yield is_free


def _state_folder_id() -> str:
    return read_folder_id(home())
