"""The CSV files of raw tables.

There is one open file per table; a thread compresses while the next rows are prepared.
"""

from __future__ import annotations

import gzip
import io
from collections import Counter, deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

import polars as pl

_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
_MAX_PENDING_BLOCKS = 2
"""Blocks of rows that may wait for the compressor."""


ROW_ID = "ROW_ID"


@dataclass(frozen=True)
class TableLayout:
    """A file, its columns, and which of a row's values each of them gets."""

    file: str
    columns: tuple[str, ...]
    sources: tuple[str, ...]

    @classmethod
    def parse(cls, file: str, columns: str) -> TableLayout:
        """Read ``column other=SOURCE ...``; the source of a column is its name in capitals."""
        pairs = [column.partition("=") for column in columns.split()]
        names = tuple(name for name, _, _ in pairs)
        return cls(file, names, tuple(source or name.upper() for name, _, source in pairs))

    @property
    def has_row_id(self) -> bool:
        """The first column numbers the rows."""
        return self.sources[0] == ROW_ID

    @property
    def values(self) -> tuple[str, ...]:
        """The sources without the number of the row."""
        return self.sources[1:] if self.has_row_id else self.sources


class CsvFiles:
    """One open file per table. Rows are numbered as they come."""

    def __init__(self, folder: Path, layouts: Iterable[TableLayout], *, compress: bool) -> None:
        self.folder = folder
        self.compress = compress
        self.layouts = tuple(layouts)
        self.n_rows = Counter({layout.file: 0 for layout in self.layouts})
        self._files: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()
        self._compressor = ThreadPoolExecutor(1)
        self._pending: deque[Future[int]] = deque()

    def __enter__(self) -> CsvFiles:
        for layout in self.layouts:
            header = ",".join(f'"{column}"' for column in layout.columns)
            self._files[layout.file] = self._open(layout.file)
            self._files[layout.file].write(header.encode() + b"\n")
        return self

    def __exit__(self, *exc: object) -> None:
        self._compressor.shutdown(wait=True, cancel_futures=exc[0] is not None)
        self._stack.close()
        if exc[0] is None:
            self._wait_for_blocks(0)

    def add(self, layout: TableLayout, frame: pl.DataFrame) -> None:
        """Write rows; columns whose source is not in the frame are empty."""
        columns = (
            (pl.col(source) if source in frame.columns else pl.lit(None)).alias(column)
            for source, column in zip(
                layout.values, layout.columns[-len(layout.values) :], strict=True
            )
        )
        self._write(layout, frame.select(columns), "necessary")

    def add_formatted(self, layout: TableLayout, parts: pl.DataFrame) -> None:
        """Write rows of which the parts of the lines are formatted already, with commas and quotes.

        Args:
            layout: the table.
            parts: text columns; joined with commas they are the lines without the row's number.
        """
        self._write(layout, parts, "never")

    def _write(
        self, layout: TableLayout, frame: pl.DataFrame, quote_style: Literal["necessary", "never"]
    ) -> None:
        if frame.is_empty():
            return
        first = self.n_rows[layout.file] + 1
        self.n_rows[layout.file] += frame.height
        if layout.has_row_id:
            row_id = pl.int_range(first, first + frame.height).alias(ROW_ID)
            frame = frame.select(row_id, pl.all())
        buffer = io.BytesIO()
        frame.write_csv(
            buffer,
            include_header=False,
            quote_style=quote_style,
            datetime_format=_TIME_FORMAT,
        )
        block = buffer.getbuffer()
        self._pending.append(self._compressor.submit(self._files[layout.file].write, block))
        self._wait_for_blocks(_MAX_PENDING_BLOCKS)

    def _wait_for_blocks(self, n: int) -> None:
        """Wait until at most ``n`` blocks are left to write; a full disk raises its error here."""
        while len(self._pending) > n:
            self._pending.popleft().result()

    def _open(self, name: str) -> IO[bytes]:
        path = self.folder / f"{name}.csv{'.gz' if self.compress else ''}"
        path.parent.mkdir(exist_ok=True)
        file = self._stack.enter_context(path.open("wb"))
        if not self.compress:
            return file
        stream = gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0)
        return cast(IO[bytes], self._stack.enter_context(stream))
