"""Signals and worker processes: orderly interruption, and no process that outlives its run."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

EXIT_INTERRUPTED = 130
"""Exit code of a command that was interrupted, as shells have it: 128 + SIGINT."""

_POLL_SECONDS = 1.0
_CLEANUP_SECONDS = 20.0
"""Time that an interrupted command has to close its runs and servers."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM interrupt the block: they raise KeyboardInterrupt, once.

    polars replaces the handler of SIGINT when it is imported, by one that restarts system calls: a
    main thread that waits for a lock would never wake up. So polars is imported first. Further
    signals do not disturb the cleanup that the first one started; if that does not end, the process
    is ended with exit code 130.

    Outside the main thread nothing changes, because only the main thread receives signals.
    """
    import polars  # noqa: F401

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        if not interrupted.is_set():
            interrupted.set()
            _exit_unless_set(cleaned_up)
            raise KeyboardInterrupt

    cleaned_up = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    previous_handlers = [signal.signal(kind, interrupt) for kind in signals]
    try:
        yield
    finally:
        cleaned_up.set()
        for kind, handler in zip(signals, previous_handlers, strict=True):
            signal.signal(kind, handler)


def _exit_unless_set(cleaned_up: threading.Event) -> None:
    """End this process if the event is not set in time."""

    def wait_and_exit() -> None:
        if not cleaned_up.wait(_CLEANUP_SECONDS):
            os._exit(EXIT_INTERRUPTED)

    threading.Thread(target=wait_and_exit, daemon=True, name="exit-after-interrupt").start()


@contextlib.contextmanager
def without_sigint() -> Iterator[None]:
    """Start processes in this block that never receive SIGINT.

    A terminal sends Ctrl-C to all processes of a run. It would break worker processes in the middle
    of their work, each with a traceback; their parent ends them. A blocked signal stays blocked in
    a process that is started meanwhile.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


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
