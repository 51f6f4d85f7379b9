"""Decompress and parse a CSV file block by block, in several threads.

One thread decompresses the file into a few buffers that are used again and again; others parse
the blocks. Memory therefore holds a few blocks, whatever the size of the file.
"""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from isal.isal_zlib import _GzipReader

from flowsheet.cohort.engine.files import split_header
from flowsheet.errors import CheckFailed

_BLOCK_BYTES = 4 << 20
"""Bytes of CSV that are parsed at once."""
_MAX_BUFFERS = 8
"""Blocks that are decompressed and not yet parsed."""
_MAX_PENDING = 32
"""Blocks that are being parsed, or are parsed and not yet used."""
_PARSER_THREADS = 2

Parsed = TypeVar("Parsed")


class BufferPool:
    """Buffers of one size that are used again and again; each is created when first needed."""

    def __init__(self, n_buffers: int, buffer_bytes: int) -> None:
        self.buffer_bytes = buffer_bytes
        self._not_created = n_buffers
        self._free: queue.Queue[bytearray] = queue.Queue()

    def get(self) -> bytearray:
        """Take a free buffer; wait for one where all are in use. For one thread only."""
        if self._not_created and self._free.empty():
            self._not_created -= 1
            return bytearray(self.buffer_bytes)
        return self._free.get()

    def put(self, buffer: bytearray) -> None:
        """Give a buffer back."""
        self._free.put(buffer)


def parse_blocks(
    path: Path, max_line_bytes: int, parse: Callable[[list[str], pa.Buffer], Parsed]
) -> Iterator[Parsed]:
    """Parse the blocks of a CSV file, plain or gzipped, and yield the results in the file's order.

    Args:
        path: the file; its name ends in .gz where it is compressed.
        max_line_bytes: a longer line is refused before it is in memory.
        parse: receives the names of the columns and a block of whole lines, in a thread of its own.

    Raises:
        CheckFailed: a line is too long.
    """
    buffers = BufferPool(_MAX_BUFFERS, _BLOCK_BYTES)
    results: queue.Queue[Future[Parsed] | None] = queue.Queue(_MAX_PENDING)
    is_stopped = threading.Event()

    def parse_and_release(names: list[str], buffer: bytearray, size: int) -> Parsed:
        try:
            return parse(names, pa.py_buffer(buffer).slice(0, size))
        finally:
            buffers.put(buffer)

    def decompress() -> None:
        try:
            with _open_decompressed(path) as stream:
                names = split_header(stream.readline(max_line_bytes))
                for buffer, size in split_lines(stream, buffers, max_line_bytes, path):
                    if is_stopped.is_set():
                        return
                    results.put(parsers.submit(parse_and_release, names, buffer, size))
            results.put(None)
        except Exception as error:  # raised again in the thread that reads the results
            failed: Future[Parsed] = Future()
            failed.set_exception(error)
            results.put(failed)

    with ThreadPoolExecutor(_PARSER_THREADS) as parsers:
        decompressor = threading.Thread(target=decompress, daemon=True)
        decompressor.start()
        try:
            while (result := results.get()) is not None:
                yield result.result()
        finally:
            is_stopped.set()
            while decompressor.is_alive():  # it may wait for room in the queue
                with suppress(queue.Empty):
                    results.get(timeout=0.05)


def split_lines(
    stream: io.BufferedReader, buffers: BufferPool, max_line_bytes: int, path: Path
) -> Iterator[tuple[bytearray, int]]:
    """Yield buffers filled with whole lines of the stream, and the number of bytes used in each.

    A line break inside quotes ends its row too early: no table that is read here has one.

    Args:
        stream: the text behind the header.
        buffers: where the lines are put.
        max_line_bytes: the longest line.
        path: the file, for the message.

    Raises:
        CheckFailed: a line is longer.
    """
    rest = b""
    is_at_end = False
    n_bytes = 0
    while not is_at_end:
        if len(rest) > max_line_bytes:
            raise CheckFailed(
                f"a line is longer than {max_line_bytes:,} bytes",
                where=f"{path}, behind byte {n_bytes:,}",
                todo="copy the file again, or raise cohort.options.max_line_mb",
            )
        buffer = buffers.get()
        if 2 * len(rest) > len(buffer):  # a line as long as the buffer
            buffer = bytearray(4 * len(rest))
        buffer[: len(rest)] = rest
        size = len(rest) + stream.readinto(memoryview(buffer)[len(rest) :])
        is_at_end = size < len(buffer)
        end = size if is_at_end else buffer.rfind(b"\n") + 1
        rest = bytes(buffer[end:size])
        n_bytes += end
        is_blank_end = is_at_end and not buffer[:end].strip()
        if end and not is_blank_end:
            yield buffer, end
        else:
            buffers.put(buffer)


@contextmanager
def _open_decompressed(path: Path) -> Iterator[io.BufferedReader]:
    with path.open("rb") as file:
        if path.suffix.lower() == ".gz":
            # not igzip.open, which decompresses into a buffer of its own and copies from there
            reader: Any = _GzipReader(file, 1 << 18)
            with io.BufferedReader(reader) as stream:
                yield stream
        else:
            yield file
