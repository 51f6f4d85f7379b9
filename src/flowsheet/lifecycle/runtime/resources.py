"""Memory and cores of this machine or container, and how many flow runs fit into them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from flowsheet.state.capacity import format_bytes, refuse
from flowsheet.state.memory import CGROUP, MEMBERSHIP, read_limits, usable_memory

_CPU_LIMITS = {"": "cpu.max"}
RUN_BYTES = 1_500_000_000
"""Memory that one flow run is counted with: the process takes 0.6 GB, the rest is for data."""
_MIN_RUNS = 2
"""A retraining occupies a slot of its worker while it waits for its trainings in another."""
MIN_PIECES = 3
"""Fewer pieces of a stage are not worth starting worker processes for."""


def check_memory(content: str, needed: int, todo: str) -> None:
    """Check that this machine has the memory for what is going to be computed.

    Args:
        content: what is computed, for the message.
        needed: its estimated bytes.
        todo: ways to need less.

    Raises:
        CheckFailed: it does not fit.
    """
    usable = usable_memory()
    if needed > usable:
        refuse(
            f"{content}: about {format_bytes(needed)} of memory, and {format_bytes(usable)} are "
            "usable",
            where="the memory of this machine or container",
            todo=f"{todo}; or use a machine with more memory",
        )


def usable_cores(cgroup: Path = CGROUP, membership: Path = MEMBERSHIP) -> int:
    """Cores of this process, at least 1; arguments as of :func:`usable_memory`."""
    cores = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()]
    for text in read_limits(_CPU_LIMITS, cgroup, membership):
        with contextlib.suppress(ValueError):
            quota, period = text.split()
            cores.append(int(quota) // int(period))
    return max(1, min(count or 1 for count in cores))


def default_worker_limit(cgroup: Path = CGROUP, membership: Path = MEMBERSHIP) -> int:
    """Flow runs that a worker executes at a time: one a core, as memory allows.

    Args:
        cgroup: where the control groups are mounted.
        membership: the file with this process's own ones.
    """
    memory = usable_memory(cgroup, membership)
    runs = min(usable_cores(cgroup, membership), memory // RUN_BYTES)
    return max(_MIN_RUNS, runs)
