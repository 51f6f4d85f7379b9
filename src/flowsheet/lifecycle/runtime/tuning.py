"""Settings of libraries for one kind of process; libraries read them when they are first imported.

So these functions have to be called before polars or Arrow is imported; later they have no effect.
Variables that the user has set are left as they are.
"""

from __future__ import annotations

import os

_KEEP_FREED_MEMORY = {
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1",  # polars' allocator, jemalloc
    "MIMALLOC_PURGE_DELAY": "-1",  # Arrow's allocator
}


def keep_freed_memory() -> None:
    """Let polars and Arrow keep freed memory instead of returning it to the system.

    An ingest uses the same pages again and again; to get them anew from the system costs up to a
    tenth of its processor time.
    """
    for name, setting in _KEEP_FREED_MEMORY.items():
        os.environ.setdefault(name, setting)


def use_one_polars_thread() -> None:
    """Let polars compute on the calling thread.

    For a server: its requests are small, and waking further threads takes longer than their work.
    """
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
