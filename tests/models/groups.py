"""Groups whose members are threads of this process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from torch import distributed as dist

from flowsheet.models._group import Group

T = TypeVar("T")


def run_group(
    folder: Path, size: int, call: Callable[[Group], T], timeout: timedelta = timedelta(minutes=1)
) -> list[T]:
    """The results of a call in each member; the error of the first member that has failed."""

    def run(rank: int) -> T:
        store = dist.FileStore(str(folder / "members"), size)
        return call(Group.join(rank, size, store, timeout=timeout))

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))
