"""Memory and cores of this machine or container, and how many flow runs fit into them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path, PurePosixPath

from flowsheet.state.capacity import format_bytes, refuse

_CGROUP = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
"""Lines ``id:controllers:path`` with the control groups of this process (man 7 cgroups)."""
_MEMORY_LIMITS = {"": "memory.max", "memory": "memory.limit_in_bytes"}
"""{controller: file}; version 2 has one hierarchy for all controllers."""
_CPU_LIMITS = {"": "cpu.max"}
RUN_BYTES = 1_500_000_000
"""Memory that one flow run is counted with: the process takes 0.6 GB, the rest is for data."""
_MIN_RUNS = 2
"""A retraining occupies a slot of its worker while it waits for its trainings in another."""
MIN_PIECES = 3
"""Fewer pieces of a stage are not worth starting worker processes for."""
_USABLE_SHARE = 0.9
"""Of the memory; the rest is for the system and the worker itself."""


_task_limit: ContextVar[int | None] = ContextVar("task_limit", default=None)


@contextlib.contextmanager
def limited_memory(limit: int | None) -> Iterator[None]:
    """Count on at most that many bytes in the block, where the process has a limit of its own."""
    token = _task_limit.set(limit)
    try:
        yield
    finally:
        _task_limit.reset(token)


def usable_memory(cgroup: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> int:
    """Bytes that flow runs may take together: of the machine, or of its control group's limit.

    A container has such a limit, and a service of systemd (``MemoryMax``). Inside
    :func:`limited_memory` its limit holds too.

    Args:
        cgroup: where the control groups are mounted.
        membership: the file with this process's own ones.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    if (limit := _task_limit.get()) is not None:
        limits.append(limit)
    for text in _read_limits(_MEMORY_LIMITS, cgroup, membership):
        with contextlib.suppress(ValueError):  # "max": no limit
            limits.append(int(text))
    return int(min(limits) * _USABLE_SHARE)


def resident_memory(status: Path = Path("/proc/self/statm")) -> int:
    """Bytes of this process that are in memory; 0 where the system does not tell.

    Args:
        status: the file with the numbers of its pages.
    """
    try:
        pages = int(status.read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


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


def usable_cores(cgroup: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> int:
    """Cores of this process, at least 1; arguments as of :func:`usable_memory`."""
    cores = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()]
    for text in _read_limits(_CPU_LIMITS, cgroup, membership):
        with contextlib.suppress(ValueError):
            quota, period = text.split()
            cores.append(int(quota) // int(period))
    return max(1, min(count or 1 for count in cores))


def _read_limits(files: Mapping[str, str], cgroup: Path, membership: Path) -> Iterator[str]:
    """The contents of these files, of the process's control groups and of those above them.

    Args:
        files: {controller: name of the file}.
        cgroup: where the control groups are mounted.
        membership: the file with this process's own ones.
    """
    own = dict.fromkeys(files, "/")
    with contextlib.suppress(OSError):
        for line in membership.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            own |= {name: path for name in controllers.split(",") if name in files}
    for controller, path in own.items():
        group = PurePosixPath("/") / path
        for folder in (group, *group.parents):  # a container sees its own group as the topmost one
            with contextlib.suppress(OSError):
                file = cgroup / controller / folder.relative_to("/") / files[controller]
                yield file.read_text(encoding="ascii")


def default_worker_limit(cgroup: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> int:
    """Flow runs that a worker executes at a time: one a core, as memory allows.

    Args:
        cgroup: where the control groups are mounted.
        membership: the file with this process's own ones.
    """
    memory = usable_memory(cgroup, membership)
    runs = min(usable_cores(cgroup, membership), memory // RUN_BYTES)
    return max(_MIN_RUNS, runs)
