"""Memory and cores of this machine or container, and how many flow runs fit into them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMORY_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
_CPU_LIMIT = "cpu.max"
RUN_BYTES = 1_500_000_000
"""Memory that one flow run is counted with: the process takes 0.6 GB, the rest is for data."""
_MIN_RUNS = 2
"""A retraining occupies a slot of its worker while it waits for its trainings in another."""
_USABLE_SHARE = 0.9
"""Of the memory; the rest is for the system and the worker itself."""


def usable_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes that flow runs may take together: of the machine, or of the container's limit."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in _MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # ValueError: "max", no limit
            limits.append(int((cgroup / name).read_text(encoding="ascii")))
    return int(min(limits) * _USABLE_SHARE)


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Cores of this process, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(OSError, ValueError):
        quota, period = (cgroup / _CPU_LIMIT).read_text(encoding="ascii").split()
        return max(1, min(cores or 1, int(quota) // int(period)))
    return cores or 1


def default_worker_limit(cgroup: Path = _CGROUP) -> int:
    """Flow runs that a worker of this machine executes at a time: one a core, as memory allows."""
    runs = min(usable_cores(cgroup), usable_memory(cgroup) // RUN_BYTES)
    return max(_MIN_RUNS, runs)
