"""The columns of many rows, computed from the stays whenever they are read.

Neither the columns of all rows nor, where the inputs are in shards, the inputs of all stays are
ever in memory at once. Chunks have the same rows and the same layout wherever the inputs come from,
so that sums over them are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from flowsheet.typing import AnyArray, Floats, Floats32, Ints
from flowsheet.windows.sequences import Sequences
from flowsheet.windows.shards import ShardedInputs

CHUNK_ROWS = 1 << 15
"""Rows that are computed with at a time."""
GROUP_BYTES = 1 << 29
"""Where all values of a column are needed, as for quantiles, columns are read in such groups."""

T = TypeVar("T")
_END = object()


@dataclass(frozen=True)
class RowMatrix:
    """Columns (n, D) of rows of some sequences."""

    sequences: Sequences
    rows: Ints  # (n,) ascending
    width: int
    """D."""
    compute: Callable[[Sequences, Ints], Floats32]
    """(stays in memory, some of their rows) -> the columns of these rows."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, D)."""
        return (len(self.rows), self.width)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def blocks(self) -> Iterator[tuple[slice, Floats32]]:
        """All rows in order, those of a block of stays at a time: (rows, columns)."""
        for of_block, stays in self.sequences.blocks():
            low, high = np.searchsorted(self.rows, [of_block.start, of_block.stop])
            if low < high:
                rows = slice(int(low), int(high))
                yield rows, self.compute(stays, self.rows[rows] - of_block.start)

    def chunks(self, size: int) -> Iterator[tuple[slice, Floats32]]:
        """All rows in order, exactly so many at a time: (rows, columns)."""
        chunk, start = self._empty(0, size), 0
        for rows, block in self.blocks():
            done = rows.start
            while done < rows.stop:
                part = block[done - rows.start : start + len(chunk) - rows.start]
                chunk[done - start : done - start + len(part)] = part
                done += len(part)
                if done == start + len(chunk):
                    yield slice(start, done), chunk
                    start = done
                    chunk = self._empty(start, size)

    def part(self, positions: slice) -> RowMatrix:
        """These rows alone, of the stays that they belong to."""
        rows = self.rows[positions]
        offsets = self.sequences.offsets
        first, last = np.searchsorted(offsets, rows[[0, -1]], "right") - 1
        stays = self.sequences.take(np.arange(first, last + 1))
        return replace(self, sequences=stays, rows=rows - offsets[first])

    def take(self, positions: Ints) -> Floats32:
        """The columns of the rows at these positions, in that order."""
        ascending, place = np.unique(positions, return_inverse=True)
        stays, rows = select_stays_of(self.sequences, self.rows[ascending])
        return self.compute(stays, rows)[place]

    def columns(self, chosen: slice) -> Floats32:
        """These columns of all rows, each in one piece."""
        columns = np.empty((len(range(self.width)[chosen]), len(self)), np.float32)
        for rows, block in self.blocks():
            columns[:, rows] = block[:, chosen].T
        return columns.T

    def each_column(self) -> Iterator[Floats32]:
        """Each column (n,) in turn; the stays are read once for ``GROUP_BYTES`` of columns."""
        size = max(1, GROUP_BYTES // (4 * max(1, len(self))))
        for first in range(0, self.width, size):
            yield from self.columns(slice(first, first + size)).T

    def __array__(self, dtype: type | None = None, copy: bool | None = None) -> AnyArray:
        """All columns in memory."""
        if copy is False:
            raise ValueError("the columns are computed into a new array")
        return np.ascontiguousarray(self.columns(slice(None)), dtype)

    def _empty(self, start: int, size: int) -> Floats32:
        return np.empty((min(size, len(self) - start), self.width), np.float32)


Matrix = Floats32 | Floats | RowMatrix


def iterate_chunks(x: Matrix) -> Iterator[tuple[slice, Floats32 | Floats]]:
    """Chunks of ``CHUNK_ROWS`` rows, from shards read one ahead of their use: (rows, columns)."""
    if isinstance(x, RowMatrix):
        chunks = x.chunks(CHUNK_ROWS)
        return prefetched(chunks) if isinstance(x.sequences.x, ShardedInputs) else chunks
    starts = range(0, len(x), CHUNK_ROWS)
    slices = (slice(start, start + CHUNK_ROWS) for start in starts)
    return ((rows, x[rows]) for rows in slices)


def select_stays_of(sequences: Sequences, rows: Ints) -> tuple[Sequences, Ints]:
    """The stays that some ascending rows belong to, in memory, and the rows among theirs."""
    stay = np.searchsorted(sequences.offsets, rows, "right") - 1
    stays = np.unique(stay)
    own = sequences.take(stays).in_memory()
    first_rows = own.offsets[np.searchsorted(stays, stay)]
    return own, first_rows + rows - sequences.offsets[stay]


def prefetched(items: Iterator[T]) -> Iterator[T]:
    """The same items; a thread computes the next one while one is used."""
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, items, _END)
        while (item := upcoming.result()) is not _END:
            upcoming = pool.submit(next, items, _END)
            yield item  # type: ignore[misc]
