"""One streaming pass over a raw table, CSV or Parquet.

Rows of unmapped items are dropped while the blocks are parsed, and each cell is parsed by the rule
of its kind (``cells.py``), so that one wrong cell costs its row and not the table.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from flowsheet.cohort.engine.cells import (
    CELL_DEFECTS,
    CELL_TYPES,
    EMPTY_TEXTS,
    LARGEST_NUMBER,
    CellKind,
    find_id_texts,
    parse_cells,
)
from flowsheet.cohort.engine.csv_reader import parse_blocks
from flowsheet.cohort.engine.exclusions import ID_FIELDS, ExclusionLog, IdTexts
from flowsheet.cohort.engine.files import RawFile, RawTable
from flowsheet.cohort.engine.midnight_check import MidnightCheck
from flowsheet.cohort.engine.row_shapes import shape_rows
from flowsheet.cohort.record_files import report_unreadable
from flowsheet.typing import Bools

_ARROW_TYPES: dict[CellKind, pa.DataType] = {
    CellKind.id: pa.int64(),
    CellKind.text_id: pa.string(),
    CellKind.flag: pa.int64(),
    CellKind.number: pa.float64(),
    CellKind.time: pa.timestamp("us"),
    CellKind.day: pa.timestamp("us"),
    CellKind.text: pa.string(),
}
"""The types as which Arrow parses a block, as long as every cell has its usual form."""

_FRAME_ROWS = 250_000
"""Rows that are yielded at once."""
_PARQUET_ROWS = 1 << 17
"""Rows of Parquet that are read at once."""


_TO_MINUTES = len("-01-01 08")
"""Bytes from the first hyphen of a date to the colon before its minutes."""
_CACHED_BYTES = 1 << 17
"""Bytes that are searched at once; more of them do not fit the processor's cache."""
_NOT_ASCII = 128


@dataclass
class RowFilter:
    """Keep the rows with one of ``values``, positive integers, in ``column``."""

    column: str
    values: pl.Series
    _is_kept: Bools = field(init=False)

    def __post_init__(self) -> None:
        ids = self.values.to_numpy()
        self._is_kept = np.zeros(int(ids.max(initial=0)) + 2, np.bool_)
        self._is_kept[ids] = True

    def mask(self, ids: pl.Series) -> pl.Series:
        """Which rows to keep, by their ids; null is not kept."""
        numbers = ids.fill_null(0).to_numpy()
        return pl.Series(self._is_kept[np.clip(numbers, 0, len(self._is_kept) - 1)])


@dataclass(frozen=True)
class ParsedBlock:
    """One block of a file."""

    rows: pl.DataFrame
    """The rows that are kept, with their ``position`` in the block, counted from 0."""
    defects: pl.DataFrame
    """Rows with a cell that cannot be parsed; columns as in ``CELL_DEFECTS``."""
    n_parsed: int
    """Rows of the block, kept or not."""
    n_unmapped: int = 0
    """Rows that the filter dropped."""
    id_texts: IdTexts = field(default_factory=dict)
    """Ids that are texts."""
    malformed: tuple[Any, ...] = ()
    """A ``pyarrow.csv.InvalidRow`` for each row with too many or too few fields."""


def stream_table(
    table: RawTable, log: ExclusionLog, row_filter: RowFilter | None = None
) -> Iterator[pl.DataFrame]:
    """Yield the columns of a table as frames of many rows, each column with the type of its kind.

    The column ``row`` is the row's number in the table, counted from 1. Rows that are malformed or
    have a wrong cell go to ``log``. Optional columns that a file lacks are null.

    Args:
        table: the raw table.
        log: receives the defects and the number of rows.
        row_filter: drops the rows of unmapped items.

    Raises:
        CheckFailed: a file ends early, or cannot be read; or all times of a column are dates.
    """
    columns = _make_empty_frame(table)
    frames: list[pl.DataFrame] = [shape_rows(table, columns, log)]
    if table.item_numbers is not None:
        row_filter = None  # items that are texts are looked up later
    midnight = MidnightCheck(table)
    n_waiting = n_before = 0
    for file in table.files:
        log.open_file(table.name, file.path.name, n_before)
        with report_unreadable(file.path), closing(_parse_file(table, file, row_filter)) as blocks:
            for block in blocks:
                _log_block(block, table.name, n_before, log)
                midnight.add(block.rows)
                row = pl.col("position") + (n_before + 1)
                rows = block.rows.with_columns(row=row).select(columns.columns)
                frames.append(shape_rows(table, _keep_rows(table, rows, log), log))
                n_before += block.n_parsed
                n_waiting += frames[-1].height
                if n_waiting >= _FRAME_ROWS:
                    yield pl.concat(frames, rechunk=True)
                    frames, n_waiting = frames[:1], 0
    midnight.finish()
    if n_waiting:
        yield pl.concat(frames, rechunk=True)


def _keep_rows(table: RawTable, rows: pl.DataFrame, log: ExclusionLog) -> pl.DataFrame:
    """The rows with one of the texts that the database keeps."""
    for name, texts in table.spec.keep.items():
        text = pl.col(name).str.strip_chars().str.to_lowercase().fill_null("")
        is_other = ~text.is_in(list(texts))
        reason = f"{table.name}: {table.spec.names[name].upper()} of another kind"
        rows = log.exclude(rows, is_other, reason)
    return rows


def _make_empty_frame(table: RawTable) -> pl.DataFrame:
    schema = {column: CELL_TYPES[kind] for column, kind in table.kinds.items()}
    return pl.DataFrame(schema=schema | {"row": pl.Int64()})


def read_table(table: RawTable, log: ExclusionLog) -> pl.DataFrame:
    """All rows of a small table; see ``stream_table``."""
    empty = shape_rows(table, _make_empty_frame(table), log)
    return pl.concat([empty, *stream_table(table, log)])


def _log_block(block: ParsedBlock, table: str, n_before: int, log: ExclusionLog) -> None:
    log.unmapped_items(table, block.n_unmapped)
    log.id_texts.update(block.id_texts)
    log.rows_read[table] += block.rows.height + block.defects.height + len(block.malformed)
    if block.malformed:
        log.malformed_rows(table, [(n_before + row.number, row) for row in block.malformed])
    if block.defects.height:
        row = pl.col("position") + (n_before + 1)
        log.wrong_cells(table, block.defects.with_columns(row=row))


def _parse_file(
    table: RawTable, file: RawFile, row_filter: RowFilter | None
) -> Generator[ParsedBlock]:
    if file.is_parquet:
        with pq.ParquetFile(file.path) as parquet:
            columns = list(file.columns.values())
            for batch in parquet.iter_batches(batch_size=_PARQUET_ROWS, columns=columns):
                positions = np.arange(batch.num_rows)
                yield _parse_cells(table, _to_polars(batch, file), positions, row_filter)
        return

    def parse(names: list[str], block: pa.Buffer) -> ParsedBlock:
        return _parse_csv(table, file, names, block, row_filter)

    yield from parse_blocks(file.path, table.max_line_bytes, parse)


def _parse_csv(
    table: RawTable,
    file: RawFile,
    names: list[str],
    block: pa.Buffer,
    row_filter: RowFilter | None,
) -> ParsedBlock:
    """Parse lines of a CSV.

    Args:
        table: the table.
        file: the file, with the columns that are needed.
        names: names of all columns of the file.
        block: whole lines, without the header.
        row_filter: drops the rows of unmapped items.
    """
    types = {name: _ARROW_TYPES[table.kinds[column]] for column, name in file.columns.items()}
    is_utf8 = _is_utf8(block)
    has_times = CellKind.time in table.kinds.values()
    is_plain = not table.text_ids and table.zones.source is None
    if is_utf8 and is_plain and not (has_times and has_bare_dates(block)):
        # otherwise a cell has not the usual form: all cells are parsed one by one
        with suppress(pa.ArrowInvalid):
            batch, malformed = _read_csv(types, names, block)
            parsed = _take_usual_cells(table, _to_polars(batch, file), malformed, row_filter)
            if parsed:
                return parsed
    binary = dict.fromkeys(types, pa.binary())
    batch, malformed = _read_csv(binary, names, block, "utf8" if is_utf8 else "latin1")
    frame = _to_polars(batch, file)
    if not is_utf8:
        frame = pl.DataFrame([_restore_bytes(cells) for cells in frame.iter_columns()])
    positions = _find_positions(batch.num_rows, malformed)
    parsed = _parse_cells(table, frame, positions, row_filter)
    n_parsed = batch.num_rows + len(malformed)
    return replace(parsed, malformed=tuple(malformed), n_parsed=n_parsed)


def has_bare_dates(block: pa.Buffer) -> bool:
    """Whether something like a date is not followed by hours and minutes, in any column.

    >>> has_bare_dates(pa.py_buffer(b"1,2150-01-01 08:00:00\\n"))
    False
    >>> has_bare_dates(pa.py_buffer(b"1,2150-01-01\\n"))
    True
    """
    text = np.frombuffer(block, np.uint8)
    tail = np.append(text[-_TO_MINUTES:], np.zeros(_TO_MINUTES, np.uint8))
    starts = range(0, len(text) - _TO_MINUTES, _CACHED_BYTES)
    parts = (text[start : start + _CACHED_BYTES + _TO_MINUTES] for start in starts)
    return any(map(_has_bare_date, parts)) or _has_bare_date(tail)


def _has_bare_date(text: np.ndarray[Any, Any]) -> bool:
    is_bare = text[:-_TO_MINUTES] == ord("-")
    is_bare &= text[len("-01") : len("-01") - _TO_MINUTES] == ord("-")
    is_bare &= text[_TO_MINUTES:] != ord(":")
    return bool(is_bare.any())


def _is_utf8(block: pa.Buffer) -> bool:
    if np.frombuffer(block, np.uint8).max(initial=0) < _NOT_ASCII:
        return True
    try:
        str(memoryview(block), "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _restore_bytes(cells: pl.Series) -> pl.Series:
    """The bytes of cells that were read as Latin-1 and written as UTF-8."""
    raw = [None if cell is None else cell.decode().encode("latin-1") for cell in cells.to_list()]
    return pl.Series(cells.name, raw, dtype=pl.Binary)


def _read_csv(
    types: dict[str, pa.DataType], names: list[str], block: pa.Buffer, encoding: str = "utf8"
) -> tuple[pa.RecordBatch, list[Any]]:
    """The rows of a block, and those that are malformed.

    Args:
        types: the columns to read, and their types.
        names: names of all columns of the file.
        block: whole lines, without the header.
        encoding: of the block. Arrow hands on malformed rows as text: of bytes that are not UTF-8
            it would only print an exception.
    """
    malformed: list[Any] = []

    def skip_malformed(row: Any) -> str:
        malformed.append(row)
        return "skip"

    table = pa.csv.read_csv(
        pa.BufferReader(block),
        read_options=pa.csv.ReadOptions(
            column_names=names,
            use_threads=False,
            block_size=2 * len(block) + 1,  # Latin-1 grows as it becomes UTF-8
            encoding=encoding,
        ),
        parse_options=pa.csv.ParseOptions(invalid_row_handler=skip_malformed),
        convert_options=pa.csv.ConvertOptions(
            include_columns=list(types),
            column_types=types,
            strings_can_be_null=True,
            null_values=list(EMPTY_TEXTS),
        ),
    )
    batches = table.to_batches()  # one or none: the block is parsed as a whole
    batch = batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)
    return batch, malformed


def _to_polars(batch: pa.RecordBatch, file: RawFile) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame.select(pl.col(name).alias(column) for column, name in file.columns.items())


def _find_positions(n_rows: int, malformed: list[Any]) -> np.ndarray[Any, Any]:
    """Positions of the rows in the block: those behind a malformed row keep their place."""
    positions = np.arange(n_rows + len(malformed))
    return np.delete(positions, [row.number - 1 for row in malformed]) if malformed else positions


def _add_missing_columns(table: RawTable, frame: pl.DataFrame) -> pl.DataFrame:
    missing = [column for column in table.kinds if column not in frame.columns]
    kinds = table.kinds
    return frame.with_columns(pl.lit(None, CELL_TYPES[kinds[c]]).alias(c) for c in missing)


def _take_usual_cells(
    table: RawTable, frame: pl.DataFrame, malformed: list[Any], row_filter: RowFilter | None
) -> ParsedBlock | None:
    """The block as Arrow has parsed it; None if that is not certainly what ``cells.py`` gives.

    Args:
        table: the table.
        frame: the block's rows.
        malformed: the rows that are not among them.
        row_filter: drops the rows of unmapped items.
    """
    for column, kind in table.kinds.items():
        if column not in frame.columns:
            continue
        cells = frame[column]
        if kind is CellKind.number and not (cells.abs() <= LARGEST_NUMBER).all():
            return None
        if kind is CellKind.id and (cells < 0).any():
            return None
        if kind is CellKind.flag:
            frame = frame.with_columns((cells == 1).cast(pl.Int64).alias(column))
    n_parsed = frame.height + len(malformed)
    frame = frame.with_columns(position=pl.Series(_find_positions(frame.height, malformed)))
    frame = _add_missing_columns(table, frame)
    kept = frame
    if row_filter:
        if frame[row_filter.column].null_count():
            return None
        kept = frame.filter(row_filter.mask(frame[row_filter.column]))
    texts = [column for column, kind in table.kinds.items() if kind is CellKind.text]
    is_spaced = (pl.col(texts) != pl.col(texts).str.strip_chars()).any()
    if texts and any(kept.select(is_spaced).row(0)):
        return None
    defects = pl.DataFrame(schema=CELL_DEFECTS)
    n_unmapped = frame.height - kept.height
    return ParsedBlock(kept, defects, n_parsed, n_unmapped, malformed=tuple(malformed))


def _parse_cells(
    table: RawTable,
    frame: pl.DataFrame,
    positions: np.ndarray[Any, Any],
    row_filter: RowFilter | None,
) -> ParsedBlock:
    """Parse a block cell by cell.

    Args:
        table: the table.
        frame: the block's rows, text as bytes.
        positions: their positions in the block.
        row_filter: drops the rows of unmapped items; rows without an item id are defective.
    """
    n_parsed = frame.height
    frame = frame.with_columns(position=pl.Series(positions))
    present = {column: kind for column, kind in table.kinds.items() if column in frame.columns}
    defects = [pl.DataFrame(schema=CELL_DEFECTS)]
    if row_filter:
        column = row_filter.column
        ids, wrong = parse_cells(frame, {column: CellKind.id})
        missing = ids.filter(pl.col(column).is_null())
        missing = missing.select(
            "position", column=pl.lit(column), rule=pl.lit("id"), value=pl.lit("")
        )
        defects += [wrong, missing.select(list(CELL_DEFECTS))]
        kept = ids.filter(row_filter.mask(ids[column]))["position"]
        frame = frame.filter(pl.col("position").is_in(kept.implode()))
    rows, wrong = parse_cells(frame, present, table.zones)
    n_unmapped = n_parsed - frame.height - sum(part.height for part in defects)
    all_defects = pl.concat([*defects, wrong])
    id_texts: IdTexts = {}
    for column in ID_FIELDS:
        if present.get(column) is CellKind.text_id:
            texts = find_id_texts(frame[column])
            id_texts |= {(column, number): text for number, text in texts.items()}
    rows = _add_missing_columns(table, rows)
    return ParsedBlock(rows, all_defects, n_parsed, n_unmapped, id_texts)
