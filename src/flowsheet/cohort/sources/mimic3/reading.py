"""One streaming pass over a raw table.

A CSV is unpacked in one thread and parsed in others, block by block, into buffers that are used
again and again; only the rows that matter are kept. So memory holds a few blocks, and a cell that
cannot be read spoils its row, not the table.
"""

from __future__ import annotations

import io
import queue
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from isal.isal_zlib import _GzipReader

from flowsheet.cohort.sources.mimic3.exclusions import Tally
from flowsheet.cohort.sources.mimic3.files import RawTable, names_in, readable
from flowsheet.typing import Bools, Ints

_KINDS: dict[str, pa.DataType] = {
    **dict.fromkeys(
        ("subject_id", "hadm_id", "icustay_id", "itemid", "error", "iserror"), pa.int64()
    ),
    **dict.fromkeys(("charttime", "storetime", "starttime", "endtime"), pa.timestamp("us")),
    **dict.fromkeys(("valuenum", "amount", "rate"), pa.float64()),
}
"""Columns that are read as what they are, as long as every cell of a block is that."""

_BLOCK = 4 << 20  # bytes of CSV parsed at once
_BUFFERS = 8  # blocks unpacked and not yet parsed
_AHEAD = 32  # blocks on their way
_CHUNK = 250_000  # rows handed on at once
_PARSERS = 2


@dataclass
class Wanted:
    """Rows worth keeping: those with one of ``values``, positive whole numbers, in ``column``.

    Of the rest, ``others`` counts the rows with another number, ``odd`` what is none.
    """

    column: str
    values: pl.Series
    others: int = 0
    odd: Counter[str] = field(default_factory=Counter)
    table: Bools = field(init=False)
    known: pa.Array = field(init=False)

    def __post_init__(self) -> None:
        ids = self.values.to_numpy()
        self.table = np.zeros(int(ids.max(initial=0)) + 2, np.bool_)
        self.table[ids] = True
        self.known = pa.array(self.values.cast(pl.String).to_list(), pa.string())

    def mask(self, batch: pa.RecordBatch) -> tuple[Bools, int, Counter[str]]:
        """Which rows to keep, how many have another number, and what is none."""
        column = batch.column(self.column)
        if pa.types.is_integer(column.type):
            ids = column.fill_null(0).to_numpy(zero_copy_only=False)
            keep = self.table[np.clip(ids, 0, len(self.table) - 1)]  # neither end is an item
            odd = Counter(str(item) for item in ids[ids < 0].tolist()) + Counter(
                {"": column.null_count}
            )
        else:
            texts = pc.fill_null(column.cast(pa.string()), "")
            keep = pc.is_in(texts, self.known).to_numpy(zero_copy_only=False)
            rest = texts.filter(pa.array(~keep)).value_counts().to_pylist()
            odd = Counter(
                {one["values"]: one["counts"] for one in rest if not one["values"].isdigit()}
            )
        return keep, len(keep) - int(keep.sum()) - odd.total(), odd


@dataclass(frozen=True)
class Piece:
    """What is left of one block: ``passed`` rows, of which those at ``rows`` (counted from 0) are kept."""

    kept: pa.RecordBatch
    rows: Ints
    passed: int
    misshapen: list[Any]
    others: int = 0
    odd: Counter[str] = field(default_factory=Counter)


def stream(table: RawTable, tally: Tally, wanted: Wanted | None = None) -> Iterator[pl.DataFrame]:
    """The table's needed columns, in pieces: numbers and times as such where every cell is one, the
    rest as text.

    ``row`` counts from 1. A row with too many or too few fields goes to ``tally``.

    Raises:
        CheckFailed: the file ends early, or is no file of its kind.
    """
    kept: list[pa.RecordBatch] = []
    numbers: list[Ints] = []
    held = passed = 0
    with readable(table.path), closing(_pieces(table, wanted)) as pieces:
        for piece in pieces:
            for spoilt in piece.misshapen:
                tally.misshapen(table.name, table.path.name, passed + spoilt.number, spoilt)
            if wanted:
                wanted.others += piece.others
                wanted.odd.update(piece.odd)
            if kept and piece.kept.schema != kept[0].schema:  # one of them had to be read as text
                yield _frame(kept, numbers)
                kept, numbers, held = [], [], 0
            kept.append(piece.kept)
            numbers.append(piece.rows + passed + 1)
            passed, held = passed + piece.passed, held + len(piece.rows)
            if held >= _CHUNK:
                yield _frame(kept, numbers)
                kept, numbers, held = [], [], 0
    tally.read[table.name] = passed
    if kept:
        yield _frame(kept, numbers)


def _frame(batches: list[pa.RecordBatch], numbers: list[Ints]) -> pl.DataFrame:
    frame = pl.from_arrow(pa.Table.from_batches(batches))
    assert isinstance(frame, pl.DataFrame)
    text = pl.col(pl.Binary).cast(pl.String, strict=False).fill_null("\N{REPLACEMENT CHARACTER}")
    return frame.with_columns(text).with_columns(
        row=pl.Series(np.concatenate(numbers), dtype=pl.Int64)
    )


def _pieces(table: RawTable, wanted: Wanted | None) -> Generator[Piece]:
    spelled = list(table.columns.values())
    if table.parquet:
        with pq.ParquetFile(table.path) as file:
            for batch in file.iter_batches(batch_size=1 << 17, columns=spelled):
                yield _sifted(batch, wanted, [])
        return

    def parse(names: list[str], block: pa.Buffer) -> Piece:
        misshapen: list[Any] = []

        def aside(row: Any) -> str:
            misshapen.append(row)
            return "skip"

        def read_as(types: dict[str, pa.DataType]) -> pa.Table:
            misshapen.clear()
            return pa.csv.read_csv(
                pa.BufferReader(block),
                read_options=pa.csv.ReadOptions(
                    column_names=names, use_threads=False, block_size=len(block) + 1
                ),
                parse_options=pa.csv.ParseOptions(invalid_row_handler=aside),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=spelled, column_types=types, check_utf8=False, null_values=[""]
                ),
            )

        try:
            read = read_as(
                {column: _KINDS.get(name, pa.binary()) for name, column in table.columns.items()}
            )
        except (
            pa.ArrowInvalid
        ):  # a cell that is not of its kind: as text, its row can be told from the others
            read = read_as(dict.fromkeys(spelled, pa.binary()))
        batches = read.to_batches()  # one or none: the block is parsed as a whole
        return _sifted(
            batches[0] if batches else pa.RecordBatch.from_pylist([], read.schema),
            wanted,
            misshapen,
        )

    yield from _in_order(table.path, parse)


def _sifted(batch: pa.RecordBatch, wanted: Wanted | None, misshapen: list[Any]) -> Piece:
    named = batch.rename_columns([name.lower() for name in batch.schema.names])
    passed = named.num_rows + len(misshapen)
    rows = np.arange(passed)
    if misshapen:  # each of them moves the rows behind it on by one
        rows = np.delete(rows, [row.number - 1 for row in misshapen])
    if wanted is None:
        return Piece(named, rows, passed, misshapen)
    mask, others, odd = wanted.mask(named)
    return Piece(named.filter(pa.array(mask)), rows[mask], passed, misshapen, others, odd)


def _in_order(path: Path, parse: Callable[[list[str], pa.Buffer], Piece]) -> Iterator[Piece]:
    """The CSV's blocks, unpacked in one thread and parsed in others, in the file's order."""
    free: queue.Queue[bytearray] = queue.Queue()
    coming: queue.Queue[Future[Piece] | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()
    for _ in range(_BUFFERS):
        free.put(bytearray(_BLOCK))

    def parsed(names: list[str], block: bytearray, size: int) -> Piece:
        try:
            return parse(names, pa.py_buffer(block).slice(0, size))
        finally:
            free.put(block)

    def feed() -> None:
        try:
            with _unpacked(path) as raw:
                names = names_in(raw.readline())
                for block, size in _blocks(raw, free):
                    if stopped.is_set():
                        return
                    coming.put(pool.submit(parsed, names, block, size))
            coming.put(None)
        except Exception as error:  # the one who reads must learn of it
            failed: Future[Piece] = Future()
            failed.set_exception(error)
            coming.put(failed)

    with ThreadPoolExecutor(_PARSERS) as pool:
        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        try:
            while (piece := coming.get()) is not None:
                yield piece.result()
        finally:
            stopped.set()
            while feeder.is_alive():
                with suppress(queue.Empty):
                    coming.get(timeout=0.05)


def _blocks(
    raw: io.BufferedReader, free: queue.Queue[bytearray]
) -> Iterator[tuple[bytearray, int]]:
    """Buffers that are ``free``, with how many of their bytes are whole lines of the stream.

    A line break inside quotes breaks its row: no table read here has one.
    """
    rest = b""
    ended = False
    while not ended:
        block = free.get()
        if 2 * len(rest) > len(block):  # a line as long as the buffer
            block = bytearray(4 * len(rest))
        block[: len(rest)] = rest
        size = len(rest) + raw.readinto(memoryview(block)[len(rest) :])
        ended = size < len(block)
        cut = size if ended else block.rfind(b"\n") + 1
        rest = bytes(block[cut:size])
        if cut and not (ended and not block[:cut].strip()):
            yield block, cut
        else:
            free.put(block)


@contextmanager
def _unpacked(path: Path) -> Iterator[io.BufferedReader]:
    with path.open("rb") as plain:
        if path.suffix.lower() == ".gz":  # not igzip.open: that one unpacks first and copies then
            unpacking: Any = _GzipReader(plain, 1 << 18)
            with io.BufferedReader(unpacking) as stream:
                yield stream
        else:
            yield plain
