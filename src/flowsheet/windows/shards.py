"""The inputs of stays in compressed shards, decoded when they are read.

Between two steps of a stay most inputs stay the same: a value is carried forward, a drug is not
given. Each stay is therefore stored column by column, every number as the bits in which it differs
from the step before (exclusive or), compressed with Zstandard. Decoding gives the same bits again,
NaN included, and a stay can be read without its neighbours.

A shard is a folder with ``x.zst``, the stays' frames one after another, and ``frames.npy``, where
each of them begins. Processes that read the same shard share its pages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from flowsheet.cohort.time_grid import row_offsets
from flowsheet.errors import FlowsheetError
from flowsheet.typing import AnyArray, Floats32, Ints

BLOCK_ROWS = 1 << 14
"""About how many rows are decoded at a time."""
_LEVEL = 3
"""Of Zstandard: on hourly windows as fast as level 1, and smaller."""
_OPEN_SHARDS = 4096
"""Shards whose files a process keeps mapped."""


class ColumnScaling(Protocol):
    """Scales each of F columns by itself."""

    @property
    def varying(self) -> Ints:
        """The columns that are not 0 in every row, whatever the inputs."""

    def apply(self, x: Floats32) -> Floats32:
        """The scaled inputs of any rows (n, F)."""

    def select(self, columns: Ints) -> Self:
        """The scaling of these columns alone."""

    def digest(self) -> str:
        """Of all parameters."""


def encode_stay(x: Floats32) -> bytes:
    """One frame from the inputs of a stay (T, F)."""
    bits = np.ascontiguousarray(x.T).view(np.uint32)
    changes = bits.copy()
    changes[:, 1:] ^= bits[:, :-1]
    frame: bytes = _codec().compress(changes.tobytes(), asbytes=True)
    return frame


def decode_stay(
    frame: bytes | memoryview, rows: int, columns: int, chosen: Ints | None = None
) -> Floats32:
    """The inputs (T, F) of a stay from its frame; F-ordered.

    Args:
        frame: The frame.
        rows: T.
        columns: Columns in the frame.
        chosen: Those of them that are decoded (F,), in that order; None: all.
    """
    content = _codec().decompress(frame, rows * columns * 4)
    changes = np.frombuffer(content, np.uint32).reshape(columns, rows)
    changes = changes if chosen is None else changes[chosen]
    return np.bitwise_xor.accumulate(changes, axis=1).view(np.float32).T


def write_shard(folder: Path, stays: Iterable[Floats32]) -> None:
    """Write the inputs of these stays, each (T, F), into an existing folder."""
    sizes = []
    with (folder / "x.zst").open("wb") as file:
        for x in stays:
            sizes.append(file.write(encode_stay(x)))
    np.save(folder / "frames.npy", row_offsets(np.array(sizes, np.int64)), allow_pickle=False)


@dataclass(frozen=True)
class ShardedInputs:
    """The inputs (N, F) of S stays in shards: reads like an array, decoded stay by stay.

    Selecting stays or columns, and scaling, copy nothing; they are done on reading. Reading rows in
    ascending order decodes every stay once.
    """

    folders: tuple[Path, ...]
    """Of the shards."""
    shard: Ints  # (S,) which shard a stay is in
    frame: Ints  # (S,) its position there
    offsets: Ints  # (S + 1,) first row of each stay
    stored_columns: int
    """Columns in the shards."""
    columns: Ints | None = None
    """Those of them that are read, in that order; None: all."""
    scaling: ColumnScaling | None = None
    """Of the columns that are read."""

    dtype = np.dtype(np.float32)
    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(N, F)."""
        width = self.stored_columns if self.columns is None else len(self.columns)
        return (int(self.offsets[-1]), width)

    @property
    def nbytes(self) -> int:
        """Bytes of the array in memory."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def __len__(self) -> int:
        """N, the number of rows."""
        return self.shape[0]

    def take(self, stays: Ints) -> ShardedInputs:
        """The stays at these positions, in that order."""
        return replace(
            self,
            shard=self.shard[stays],
            frame=self.frame[stays],
            offsets=row_offsets(np.diff(self.offsets)[stays]),
        )

    def select(self, columns: Sequence[int]) -> ShardedInputs:
        """These columns, in that order."""
        chosen = np.asarray(columns, np.int64)
        return replace(
            self,
            columns=chosen if self.columns is None else self.columns[chosen],
            scaling=None if self.scaling is None else self.scaling.select(chosen),
        )

    def scaled(self, scaling: ColumnScaling) -> ShardedInputs:
        """With every row scaled on reading."""
        return replace(self, scaling=scaling)

    def read_stay(self, stay: int) -> Floats32:
        """The inputs (T, F) of the stay at this position.

        Raises:
            FlowsheetError: the shard is damaged or gone. It is no ``CheckFailed``, by which a model
                would be left out of an experiment as one that does not apply.
        """
        x = np.empty((int(self.offsets[stay + 1] - self.offsets[stay]), self.shape[1]), np.float32)
        self._read_into(x, stay)
        return x

    def read_stays(self, stays: Iterable[int]) -> Floats32:
        """The inputs of the stays at these positions, one below the other."""
        positions = np.fromiter(stays, np.int64)
        ends = row_offsets(np.diff(self.offsets)[positions])
        x = np.empty((int(ends[-1]), self.shape[1]), np.float32)
        for stay, (start, stop) in zip(positions, pairwise(ends), strict=True):
            self._read_into(x[start:stop], int(stay))
        return x

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[tuple[slice, Floats32]]:
        """All rows in order, about so many at a time, always whole stays: (rows, inputs)."""
        for first, last in split_stays(self.offsets, rows):
            yield (
                slice(int(self.offsets[first]), int(self.offsets[last])),
                self.read_stays(range(first, last)),
            )

    def __getitem__(self, key: Any) -> Any:
        """The inputs of a slice, mask or positions of rows, and of columns, as an array."""
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        if isinstance(rows, int | np.integer):
            return self[slice(int(rows), int(rows) + 1 or None), columns][0]
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        rows = np.asarray(rows)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        rows = np.where(rows < 0, rows + len(self), rows)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"a row is outside of the {len(self)} rows")
        return self._read_rows(rows, columns)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        """All rows in memory."""
        if copy is False:
            raise ValueError("sharded inputs are decoded into a new array")
        x = np.empty(self.shape, np.float32)
        for rows, block in self.blocks():
            x[rows] = block
        return x if dtype is None else x.astype(dtype, copy=False)

    def _read_rows(self, rows: Ints, columns: Any) -> Floats32:
        """Rows in any order; each stay is decoded once."""
        order = np.argsort(rows, kind="stable")
        in_order = rows[order]
        stay = np.searchsorted(self.offsets, in_order, "right") - 1
        edges = np.flatnonzero(np.diff(stay, prepend=-1, append=-1))
        template = np.empty((0, self.shape[1]), np.float32)[:, columns]
        out = np.empty((len(rows), *template.shape[1:]), np.float32)
        for start, stop in pairwise(edges):
            position = stay[start]
            of_stay = in_order[start:stop] - self.offsets[position]
            out[order[start:stop]] = self.read_stay(int(position))[of_stay][:, columns]
        return out

    def digest(self) -> str:
        """sha256 of all that determines the array, without decoding it."""
        content = hashlib.sha256()
        for stay in range(len(self.offsets) - 1):
            content.update(self._read_frame(stay).data)
        for array in (self.offsets, self.columns):
            content.update(b"" if array is None else np.ascontiguousarray(array).data)
        scaling = "" if self.scaling is None else self.scaling.digest()
        content.update(f"{self.stored_columns} {scaling}".encode())
        return content.hexdigest()

    def _read_frame(self, stay: int) -> Any:
        content, frames = _open_shard(self.folders[self.shard[stay]])
        position = int(self.frame[stay])
        return content[frames[position] : frames[position + 1]]

    @cached_property
    def _varying(self) -> tuple[Ints, ColumnScaling] | None:
        """The columns that are not 0 after scaling, and their scaling; None: not scaled."""
        if self.scaling is None:
            return None
        varying = self.scaling.varying
        return varying, self.scaling.select(varying)

    def _read_into(self, x: Floats32, stay: int) -> None:
        """Write the inputs of the stay at this position into an array (T, F)."""
        if self._varying is None:
            x[:] = self._decode(stay, self.columns)
            return
        varying, scaling = self._varying
        stored = varying if self.columns is None else self.columns[varying]
        x[:] = 0
        x[:, varying] = scaling.apply(self._decode(stay, stored))

    def _decode(self, stay: int, columns: Ints | None) -> Floats32:
        folder, position = self.folders[self.shard[stay]], self.frame[stay]
        frame = self._read_frame(stay)
        rows = int(self.offsets[stay + 1] - self.offsets[stay])
        try:
            return decode_stay(frame.data, rows, self.stored_columns, columns)
        except (OSError, ValueError) as error:
            raise FlowsheetError(
                f"the stay at position {position} of a shard of windows cannot be decoded: {error}",
                where=str(folder),
                todo="delete the folder; the shard is built again",
            ) from error


def split_stays(offsets: Ints, rows: int) -> Iterator[tuple[int, int]]:
    """First and last position (exclusive) of the stays of blocks of about so many rows.

    >>> list(split_stays(np.array([0, 3, 4, 9]), rows=4))
    [(0, 2), (2, 3)]
    """
    first, stays = 0, len(offsets) - 1
    while first < stays:
        last = int(np.searchsorted(offsets, offsets[first] + rows, "right")) - 1
        last = min(max(last, first + 1), stays)
        yield first, last
        first = last


@lru_cache(_OPEN_SHARDS)
def _open_shard(folder: Path) -> tuple[Any, Ints]:
    try:
        frames = np.load(folder / "frames.npy", allow_pickle=False)
        if frames[-1] == 0:  # an empty file cannot be mapped
            return np.empty(0, np.uint8), frames
        return np.memmap(folder / "x.zst", np.uint8, mode="r"), frames
    except (OSError, ValueError) as error:
        raise FlowsheetError(
            f"a shard of windows cannot be read: {error}",
            where=str(folder),
            todo="start again: the shard is built again, without what was erased meanwhile",
        ) from error


@lru_cache(1)
def _codec() -> Any:
    import pyarrow as pa  # a model package, which reads no shards, does without it

    return pa.Codec("zstd", _LEVEL)
