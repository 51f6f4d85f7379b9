"""One streaming pass over a raw table, CSV or Parquet.

Rows of unmapped items are dropped while the blocks are parsed. Numbers and times are
parsed as such; a block with a cell of another type is parsed as text, so that one wrong
cell costs its row and not the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from flowsheet.cohort.sources.mimic3.csv_reader import parse_blocks
from flowsheet.cohort.sources.mimic3.exclusions import ExclusionLog
from flowsheet.cohort.sources.mimic3.files import RawTable, raise_as_check_failed
from flowsheet.typing import Bools, Ints

_COLUMN_TYPES: dict[str, pa.DataType] = {
    **dict.fromkeys(
        ("subject_id", "hadm_id", "icustay_id", "itemid", "error", "iserror"), pa.int64()
    ),
    **dict.fromkeys(("charttime", "storetime", "starttime", "endtime"), pa.timestamp("us")),
    **dict.fromkeys(("valuenum", "amount", "rate"), pa.float64()),
}
"""Types of the columns that are not text, as long as every cell of a block has its type."""

_FRAME_ROWS = 250_000
"""Rows that are yielded at once."""
_PARQUET_ROWS = 1 << 17
"""Rows of Parquet that are read at once."""


@dataclass(frozen=True)
class RowMask:
    """The rows of one block that a filter keeps, and counts of the others."""

    keep: Bools
    n_other: int = 0
    """Rows with another number."""
    invalid: Counter[str] = field(default_factory=Counter)
    """Rows by value, for values that are not positive integers."""


@dataclass
class RowFilter:
    """Keep the rows with one of ``values``, positive integers, in ``column``.

    ``n_other`` and ``invalid`` sum up what is dropped over all blocks.
    """

    column: str
    values: pl.Series
    n_other: int = 0
    invalid: Counter[str] = field(default_factory=Counter)
    _is_kept: Bools = field(init=False)
    _texts: pa.Array = field(init=False)

    def __post_init__(self) -> None:
        ids = self.values.to_numpy()
        self._is_kept = np.zeros(int(ids.max(initial=0)) + 2, np.bool_)
        self._is_kept[ids] = True
        self._texts = pa.array(self.values.cast(pl.String).to_list(), pa.string())

    def mask(self, batch: pa.RecordBatch) -> RowMask:
        """Decide which rows to keep."""
        column = batch.column(self.column)
        if pa.types.is_integer(column.type):
            return self._mask_integers(column)
        return self._mask_texts(column)

    def _mask_integers(self, column: pa.Array) -> RowMask:
        ids = column.fill_null(0).to_numpy(zero_copy_only=False)
        keep = self._is_kept[np.clip(ids, 0, len(self._is_kept) - 1)]  # neither end is an item
        negative = [str(item_id) for item_id in ids[ids < 0].tolist()]
        invalid = Counter(negative) + Counter({"": column.null_count})
        return _make_mask(keep, invalid)

    def _mask_texts(self, column: pa.Array) -> RowMask:
        texts = pc.fill_null(column.cast(pa.string()), "")
        keep = pc.is_in(texts, self._texts).to_numpy(zero_copy_only=False)
        others = texts.filter(pa.array(~keep)).value_counts().to_pylist()
        invalid = {
            other["values"]: other["counts"] for other in others if not other["values"].isdigit()
        }
        return _make_mask(keep, Counter(invalid))


def _make_mask(keep: Bools, invalid: Counter[str]) -> RowMask:
    return RowMask(keep, len(keep) - int(keep.sum()) - invalid.total(), invalid)


@dataclass(frozen=True)
class ParsedBlock:
    """The rows of one block that are kept."""

    rows: pa.RecordBatch
    positions: Ints
    """Positions of the rows in the block, counted from 0."""
    n_parsed: int
    """Rows of the block, kept or not."""
    malformed: list[Any]
    """A ``pyarrow.csv.InvalidRow`` for each row with too many or too few fields."""
    mask: RowMask | None = None


def stream_table(
    table: RawTable, log: ExclusionLog, row_filter: RowFilter | None = None
) -> Iterator[pl.DataFrame]:
    """Yield the needed columns of a table as frames of many rows.

    Numbers and times have their types where every cell of a frame is one; else they are text. The
    column ``row`` is the row's number in the file, counted from 1. Malformed rows go to ``log``.

    Raises:
        CheckFailed: the file ends early, or cannot be read.
    """
    batches: list[pa.RecordBatch] = []
    row_numbers: list[Ints] = []
    n_waiting = 0
    n_parsed = 0
    with raise_as_check_failed(table.path), closing(_parse_table(table, row_filter)) as blocks:
        for block in blocks:
            for row in block.malformed:
                log.malformed_row(table.name, table.path.name, n_parsed + row.number, row)
            if row_filter and block.mask:
                row_filter.n_other += block.mask.n_other
                row_filter.invalid.update(block.mask.invalid)
            if batches and block.rows.schema != batches[0].schema:  # one of them is text
                yield _to_frame(batches, row_numbers)
                batches, row_numbers, n_waiting = [], [], 0
            batches.append(block.rows)
            row_numbers.append(block.positions + n_parsed + 1)
            n_parsed += block.n_parsed
            n_waiting += len(block.positions)
            if n_waiting >= _FRAME_ROWS:
                yield _to_frame(batches, row_numbers)
                batches, row_numbers, n_waiting = [], [], 0
    if batches:
        yield _to_frame(batches, row_numbers)


def _to_frame(batches: list[pa.RecordBatch], row_numbers: list[Ints]) -> pl.DataFrame:
    frame = pl.from_arrow(pa.Table.from_batches(batches))
    assert isinstance(frame, pl.DataFrame)
    text = pl.col(pl.Binary).cast(pl.String, strict=False).fill_null("\N{REPLACEMENT CHARACTER}")
    row = pl.Series(np.concatenate(row_numbers), dtype=pl.Int64)
    return frame.with_columns(text).with_columns(row=row)


def _parse_table(table: RawTable, row_filter: RowFilter | None) -> Generator[ParsedBlock]:
    if table.is_parquet:
        with pq.ParquetFile(table.path) as file:
            columns = list(table.columns.values())
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=columns):
                yield _filter_block(batch, row_filter, [])
        return

    def parse(names: list[str], block: pa.Buffer) -> ParsedBlock:
        batch, malformed = _parse_csv(table, names, block)
        return _filter_block(batch, row_filter, malformed)

    yield from parse_blocks(table.path, parse)


def _parse_csv(
    table: RawTable, names: list[str], block: pa.Buffer
) -> tuple[pa.RecordBatch, list[Any]]:
    """Parse lines of a CSV: the rows, and the rows that are malformed.

    Args:
        table: the table, with the columns that are needed.
        names: names of all columns of the file.
        block: whole lines, without the header.
    """
    columns = table.columns.items()
    typed = {column: _COLUMN_TYPES.get(name, pa.binary()) for name, column in columns}
    try:
        return _parse_csv_as(typed, names, block)
    except pa.ArrowInvalid:  # a cell does not have the column's type: read as text, it is found
        return _parse_csv_as(dict.fromkeys(typed, pa.binary()), names, block)


def _parse_csv_as(
    types: dict[str, pa.DataType], names: list[str], block: pa.Buffer
) -> tuple[pa.RecordBatch, list[Any]]:
    malformed: list[Any] = []

    def skip_malformed(row: Any) -> str:
        malformed.append(row)
        return "skip"

    table = pa.csv.read_csv(
        pa.BufferReader(block),
        read_options=pa.csv.ReadOptions(
            column_names=names, use_threads=False, block_size=len(block) + 1
        ),
        parse_options=pa.csv.ParseOptions(invalid_row_handler=skip_malformed),
        convert_options=pa.csv.ConvertOptions(
            include_columns=list(types), column_types=types, check_utf8=False, null_values=[""]
        ),
    )
    batches = table.to_batches()  # one or none: the block is parsed as a whole
    batch = batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)
    return batch, malformed


def _filter_block(
    batch: pa.RecordBatch, row_filter: RowFilter | None, malformed: list[Any]
) -> ParsedBlock:
    rows = batch.rename_columns([name.lower() for name in batch.schema.names])
    n_parsed = rows.num_rows + len(malformed)
    positions = np.arange(n_parsed)
    if malformed:  # the rows behind a malformed one keep their positions in the file
        positions = np.delete(positions, [row.number - 1 for row in malformed])
    if row_filter is None:
        return ParsedBlock(rows, positions, n_parsed, malformed)
    mask = row_filter.mask(rows)
    kept = rows.filter(pa.array(mask.keep))
    return ParsedBlock(kept, positions[mask.keep], n_parsed, malformed, mask)
