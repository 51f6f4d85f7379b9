"""The memory of this machine, and the limits that this process has in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path, PurePosixPath

CGROUP = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
"""Lines ``id:controllers:path`` with the control groups of this process (man 7 cgroups)."""
_MEMORY_LIMITS = {"": "memory.max", "memory": "memory.limit_in_bytes"}
"""{controller: file}; version 2 has one hierarchy for all controllers."""
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


def usable_memory(cgroup: Path = CGROUP, membership: Path = MEMBERSHIP) -> int:
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
    for text in read_limits(_MEMORY_LIMITS, cgroup, membership):
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


def read_limits(files: Mapping[str, str], cgroup: Path, membership: Path) -> Iterator[str]:
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
