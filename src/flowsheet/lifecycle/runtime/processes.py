"""Worker processes that do not outlive the run that they work for."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

_LOOK_SECONDS = 1.0


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM stop the block as Ctrl-C does, in an orderly way."""
    if threading.current_thread() is not threading.main_thread():
        yield  # a library's caller looks after signals
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_with_parent(parent: int) -> None:
    """End this process soon after ``parent``, its own parent, has ended, however that happened.

    A worker that is blocked on its queue never learns that the run was killed; it would hold locks
    and a core.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()
