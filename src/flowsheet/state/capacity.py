"""Refuse work that this machine has no room for, before it begins.

Estimates may be wrong: ``FLOWSHEET_LIMITS=warn`` lets the work begin, with a warning.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from itertools import takewhile
from pathlib import Path

from flowsheet.errors import CheckFailed, UsageError, did_you_mean

LIMITS = "FLOWSHEET_LIMITS"
"""Environment variable: what happens to work that is estimated not to fit."""
_REFUSE, _WARN = "refuse", "warn"
_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")


def check_disk_space(
    content: str, needed: int, folder: Path, todo: str, *, replaced: int = 0
) -> None:
    """Check that the disk of a folder has room for what is going to be written.

    Args:
        content: what is written, for the message.
        needed: its estimated bytes.
        folder: where it is written; it need not exist yet.
        todo: ways to make it smaller.
        replaced: bytes on that disk which may be the same content, written earlier.

    Raises:
        CheckFailed: it does not fit.
    """
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free + replaced:
        refuse(
            f"{content}: about {format_bytes(needed)}, and {format_bytes(free)} are free",
            where=f"the disk of {_strip_temporary(folder)}",
            todo=todo,
        )


def _strip_temporary(folder: Path) -> Path:
    """The folder that a temporary one (``.NAME.part``) lies in, for people."""
    parts = takewhile(lambda part: not part.endswith(".part"), folder.parts)
    return Path(*parts)


def refuse(what: str, where: str, todo: str) -> None:
    """Raise an error about work that does not fit, or warn where the user asks for that.

    Args:
        what: what does not fit, with figures.
        where: the disk, or the memory.
        todo: the ways out.

    Raises:
        CheckFailed: ``FLOWSHEET_LIMITS`` is not ``warn``.
        UsageError: it has another value than ``warn`` and ``refuse``.
    """
    reaction = os.environ.get(LIMITS) or _REFUSE
    if reaction not in (_REFUSE, _WARN):
        raise UsageError(f"{LIMITS} is {reaction!r}", todo=did_you_mean(reaction, [_REFUSE, _WARN]))
    if reaction == _REFUSE:
        raise CheckFailed(what, where, f"{todo}; {LIMITS}={_WARN} begins nevertheless")
    print(f"warning: {what} ({where})", file=sys.stderr, flush=True)


def format_bytes(size: float) -> str:
    """A number of bytes for people.

    >>> format_bytes(19_800_000_000), format_bytes(420), format_bytes(3.1e30)
    ('19.8 GB', '0.4 kB', '3,100,000,000,000.0 EB')
    """
    unit = min(len(_UNITS), max(1, math.floor(math.log(max(size, 1), 1000))))
    return f"{size / 1000**unit:,.1f} {_UNITS[unit - 1]}"
