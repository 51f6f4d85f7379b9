"""Worker processes that do not outlive the run that they work for."""

from __future__ import annotations

import os
import threading
import time

_LOOK_SECONDS = 1.0


def die_with(parent: int) -> None:
    """End this process soon after ``parent``, its own parent, has ended, however that happened.

    A worker that is blocked on its queue never learns that the run was killed; it would hold locks and a core.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()
