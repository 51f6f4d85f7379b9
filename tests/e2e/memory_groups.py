"""Control groups with a limit of memory, as containers have them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryGroup:
    """A control group of the kernel's version 1 or 2."""

    folder: Path

    @property
    def prefix(self) -> list[str]:
        """A command that executes the one that follows it in the group."""
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs")]

    def count_kills(self) -> int:
        """How many processes of the group were killed for memory."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(FileNotFoundError):
                text = (self.folder / name).read_text(encoding="ascii")
                return int(dict(line.split() for line in text.splitlines())["oom_kill"])
        raise AssertionError("the kernel does not count kills")

    def peak_bytes(self) -> int:
        """The most memory that its processes had together, files in the page cache included."""
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            with contextlib.suppress(FileNotFoundError):
                return int((self.folder / name).read_text(encoding="ascii"))
        return 0


@contextlib.contextmanager
def memory_group(name: str, limit: int) -> Iterator[MemoryGroup]:
    """A new control group with a limit in bytes; skips the test where none can be made."""
    parent = next((p for p in (_ROOT / "memory", _ROOT) if p.is_dir()), _ROOT)
    folder = parent / f"{name}-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error.strerror}")
    group = MemoryGroup(folder)
    try:
        for file in ("memory.max", "memory.limit_in_bytes"):
            if (folder / file).exists():
                (folder / file).write_text(str(limit), encoding="ascii")
                yield group
                return
        pytest.skip("the kernel does not limit memory here")
    finally:
        for _ in range(20):  # the kernel needs a moment after the last process
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.5)
