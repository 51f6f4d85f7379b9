"""Signals and worker processes: orderly interruption, and no process that outlives its run."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

_POLL_SECONDS = 1.0


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM interrupt the block like Ctrl-C: it raises KeyboardInterrupt.

    Outside the main thread nothing changes, because only the main thread receives signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous_handler = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def exit_with_parent(parent_pid: int) -> None:
    """End this process soon after its parent ``parent_pid`` has ended, for whatever reason.

    A worker process that waits for its queue does not notice that the run was killed; it would
    keep its locks and occupy a core.
    """

    def watch_parent() -> None:
        while os.getppid() == parent_pid:
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch_parent, daemon=True, name="exit-with-parent").start()
