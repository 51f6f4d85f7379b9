"""Rows partitioned by groups of stays, in memory or on disk, for tables of any size.

A source reads its tables in their own order but yields batches of stays. In between, the rows wait
here: a table is read once, and its rows are handed out group by group.
"""

from __future__ import annotations

import shutil
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from flowsheet.errors import FlowsheetError
from flowsheet.state.home import home
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.locks import try_lock
from flowsheet.state.memory import usable_memory

_ROWS_TO_PARTITION = 1_500_000
"""Rows of one kind that are collected before they are partitioned by group."""
_FILES = "files.json"
_MEMORY_LIMIT = 4 << 30
"""Bytes that are kept in memory at most before everything is written to disk ..."""
_MEMORY_SHARE = 0.25
"""... and of the memory that this process may use."""


class Spill:
    """Frames with a column ``stay`` (the stay's number), partitioned by kind and group of stays.

    Group g contains the stays from number ``g * stays_per_group`` on. Rows stay in memory up to a
    limit; beyond it they are written to ``folder``, which is created when first needed.
    """

    def __init__(self, folder: Path, n_stays: int, stays_per_group: int) -> None:
        self.folder = folder
        self.stays_per_group = stays_per_group
        self.n_groups = -(-n_stays // stays_per_group)
        self._unpartitioned: dict[str, list[pl.DataFrame]] = defaultdict(list)
        self._parts: dict[tuple[str, int], list[pl.DataFrame]] = defaultdict(list)
        self._files: dict[tuple[str, int], list[Path]] = defaultdict(list)
        self._bytes_in_memory = 0
        self._memory_limit = min(_MEMORY_LIMIT, int(_MEMORY_SHARE * usable_memory()))
        self._is_shared = False
        self.rows: Counter[int] = Counter()
        """Rows of each group."""

    @classmethod
    def load(cls, folder: Path, n_stays: int, stays_per_group: int) -> Self:
        """What :meth:`save` wrote to a folder, for another process.

        Args:
            folder: of the spill.
            n_stays: as it was created.
            stays_per_group: as it was created.
        """
        spill = cls(folder, n_stays, stays_per_group)
        spill._is_shared = True
        for kind, group, names in read_json(folder / _FILES):
            spill._files[kind, group] = [folder / name for name in names]
        return spill

    def save(self) -> None:
        """Write all rows to the folder, where other processes can read them; after the last add.

        So that a file that is lost is missed, what is there is listed.
        """
        self._is_shared = True
        self._write_parts()
        files = self._files.items()
        listed = [[*key, [file.name for file in own]] for key, own in files]
        write_json(self.folder / _FILES, listed)

    def add(self, kind: str, rows: pl.DataFrame) -> None:
        """Add rows; all frames of one kind must have the same columns."""
        self._unpartitioned[kind].append(rows)
        if sum(frame.height for frame in self._unpartitioned[kind]) > _ROWS_TO_PARTITION:
            self._partition(kind)

    def finish_adding(self) -> None:
        """Partition the remaining rows; to be called once, before the first ``pop``."""
        for kind in list(self._unpartitioned):
            self._partition(kind)

    def pop(
        self, kind: str, group: int, schema: Mapping[str, pl.DataType] | None = None
    ) -> pl.DataFrame:
        """Return the rows of a group in the order in which they were added, and forget them.

        Files stay where other processes read them, too. ``schema`` is the schema of the empty
        frame that is returned where there are no rows.

        Raises:
            FlowsheetError: a file is gone.
        """
        files = self._files.pop((kind, group), [])
        parts = [*map(self._read, files), *self._parts.pop((kind, group), [])]
        if not self._is_shared:
            for file in files:
                file.unlink()
        return pl.concat(parts) if parts else pl.DataFrame(schema=schema)

    def _read(self, file: Path) -> pl.DataFrame:
        try:
            return pl.read_ipc_stream(file)
        except FileNotFoundError as error:
            raise FlowsheetError(
                f"rows that waited for their batch of stays are gone: {file.name}",
                where=str(self.folder),
                todo="ingest again, and let nothing else remove files there meanwhile",
            ) from error

    def _partition(self, kind: str) -> None:
        frames = self._unpartitioned.pop(kind, [])
        if not frames:
            return
        rows = pl.concat(frames)
        groups = rows["stay"].to_numpy() // self.stays_per_group
        groups = groups.astype(np.min_scalar_type(self.n_groups))  # short integers: radix sort
        order = np.argsort(groups, kind="stable")
        edges = np.append(0, np.cumsum(np.bincount(groups, minlength=self.n_groups)))
        rows = rows[order]
        for group in np.flatnonzero(np.diff(edges)).tolist():
            part = rows[int(edges[group]) : int(edges[group + 1])]
            self._parts[kind, group].append(part)
            self.rows[group] += part.height
        self._bytes_in_memory += int(rows.estimated_size())
        if self._bytes_in_memory > self._memory_limit:
            self._write_parts()

    def _write_parts(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for (kind, group), parts in self._parts.items():
            files = self._files[kind, group]
            files.append(self.folder / f"{kind}-{group}-{len(files)}.arrow")
            pl.concat(parts).write_ipc_stream(files[-1], compression="lz4")
        self._parts.clear()
        self._bytes_in_memory = 0


@contextmanager
def spill_folder() -> Iterator[Path]:
    """Yield the path of a folder under ``FLOWSHEET_HOME/spill`` that is removed afterwards.

    The folder itself is not created. Folders of processes that were killed are removed first, also
    those that a worker of such a process has created again.
    """
    parent = home() / "spill"
    parent.mkdir(exist_ok=True)
    for folder in parent.iterdir():
        if folder.is_dir() and not folder.with_suffix(".lock").exists():
            shutil.rmtree(folder, ignore_errors=True)
    for stale_lock in parent.glob("*.lock"):
        with try_lock(stale_lock) as is_free:
            if is_free:
                shutil.rmtree(stale_lock.with_suffix(""), ignore_errors=True)
                stale_lock.unlink(missing_ok=True)
    folder = parent / uuid.uuid4().hex
    lock = folder.with_suffix(".lock")
    unlocked = folder.with_suffix(".new")  # others remove locks that nobody holds
    unlocked.touch()
    with try_lock(unlocked):
        unlocked.rename(lock)
        try:
            yield folder
        finally:
            lock.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)


def remove_if_abandoned(folder: Path) -> None:
    """Remove a folder of :func:`spill_folder` whose block has ended.

    For a process that has written to it: what it writes after the end creates the folder again. The
    lock is removed before the folder, so that one of the two processes removes what is in it.
    """
    if not folder.with_suffix(".lock").exists():
        shutil.rmtree(folder, ignore_errors=True)
