"""The raw tables as files: where they are, which columns are needed, and one streaming pass over each.

A CSV is unpacked in one thread, parsed in others and filtered block by block, as text; only rows that matter become
numbers and times later. So memory holds a few blocks, and a value that cannot be read spoils its row, not the table.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import queue
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from isal import igzip_threaded
from numpy.typing import NDArray

from flowsheet.cohort.sources.mimic3.tally import Tally
from flowsheet.errors import CheckFailed

TABLES: dict[str, tuple[str, ...]] = {
    "icustays": ("subject_id", "hadm_id", "icustay_id", "dbsource", "first_careunit", "intime", "outtime"),
    "admissions": ("subject_id", "hadm_id", "admittime", "dischtime", "admission_type"),
    "patients": ("subject_id", "gender", "dob"),
    "services": ("hadm_id", "transfertime", "curr_service"),
    "chartevents": (
        *("subject_id", "icustay_id", "itemid", "charttime", "storetime"),
        *("value", "valuenum", "error"),
    ),
    "labevents": ("subject_id", "itemid", "charttime", "value", "valuenum", "valueuom"),
    "outputevents": ("subject_id", "icustay_id", "itemid", "charttime", "storetime", "value", "iserror"),
    "procedureevents_mv": (
        *("subject_id", "icustay_id", "itemid", "starttime", "endtime", "storetime"),
        "statusdescription",
    ),
    "inputevents_cv": (
        *("subject_id", "icustay_id", "itemid", "charttime", "storetime"),
        *("amount", "amountuom", "rate", "rateuom", "stopped"),
    ),
    "inputevents_mv": (
        *("subject_id", "icustay_id", "itemid", "starttime", "endtime", "storetime", "amount", "amountuom"),
        *("rate", "rateuom", "ordercategorydescription", "patientweight", "statusdescription"),
    ),
    "prescriptions": ("hadm_id", "startdate", "enddate", "drug_type", "drug", "route"),
    "microbiologyevents": ("hadm_id", "chartdate", "charttime", "spec_type_desc"),
}
"""The tables that are read, and of each the columns that are needed."""

_KINDS: dict[str, pa.DataType] = {
    **dict.fromkeys(("subject_id", "hadm_id", "icustay_id", "itemid", "error", "iserror"), pa.int64()),
    **dict.fromkeys(("charttime", "storetime", "starttime", "endtime"), pa.timestamp("us")),
    **dict.fromkeys(("valuenum", "amount", "rate"), pa.float64()),
}
"""Columns that are read as what they are, as long as every cell of a block is that."""

_ENDINGS = (".csv.gz", ".csv", ".parquet")
_BLOCK = 4 << 20  # bytes of CSV parsed at once
_CHUNK = 250_000  # rows handed on at once
_AHEAD = 32  # blocks unpacked or parsed and not yet handed on
_PARSERS = 2
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class RawTable:
    """One raw table on disk."""

    name: str
    path: Path
    columns: dict[str, str]
    """The needed columns, as the file spells them."""

    @property
    def parquet(self) -> bool:
        """Whether it is Parquet, not CSV."""
        return self.path.suffix.lower() == ".parquet"


@dataclass
class Wanted:
    """Rows worth keeping: those with one of ``values`` in ``column``. ``others`` counts the values of the rest."""

    column: str
    values: pl.Series
    others: Counter[str] = field(default_factory=Counter)
    known: pa.Array = field(init=False)
    table: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        ids = self.values.to_numpy()
        self.table = np.zeros(int(ids.max(initial=0)) + 2, np.bool_)
        self.table[ids] = True
        self.known = pa.array(self.values.cast(pl.String).to_list(), pa.string())

    def mask(self, batch: pa.RecordBatch) -> tuple[NDArray[np.bool_], dict[str, int]]:
        """Which rows to keep, and how often each other value occurs."""
        if pa.types.is_integer(batch.schema.field(self.column).type):
            return self._whole_mask(batch.column(self.column))
        coded = batch.column(self.column).dictionary_encode()
        texts = pc.fill_null(coded.dictionary.cast(pa.string()), "")
        keep = np.append(pc.is_in(texts, self.known).to_numpy(zero_copy_only=False), False)
        codes = coded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
        counts = np.bincount(codes, minlength=len(keep))
        rest = zip([*texts.to_pylist(), ""], counts.tolist(), keep.tolist(), strict=True)
        return keep[codes], {text: n for text, n, kept in rest if n and not kept}

    def _whole_mask(self, column: pa.Array) -> tuple[NDArray[np.bool_], dict[str, int]]:
        ids = column.fill_null(0).to_numpy(zero_copy_only=False)
        codes = np.where((ids >= 0) & (ids < len(self.table)), ids, 0)  # 0: too large to be known
        counts = np.bincount(codes, minlength=len(self.table))
        counts[0] -= column.null_count
        others = np.flatnonzero((counts > 0) & ~self.table)
        said = {str(item): int(counts[item]) for item in others.tolist()}
        return self.table[codes], said | ({"": column.null_count} if column.null_count else {})


@dataclass(frozen=True)
class Piece:
    """What is left of one block: ``passed`` rows, of which those at ``rows`` (counted from 0) are kept."""

    kept: pa.RecordBatch
    rows: NDArray[np.int64]
    passed: int
    others: dict[str, int]
    misshapen: list[Any]


def find(folder: Path, names: tuple[str, ...]) -> dict[str, RawTable]:
    """The tables in the folder, with all the columns that are needed of each.

    Raises:
        CheckFailed: a table or a column is missing, or a table is there twice.
    """
    if not folder.is_dir():
        raise CheckFailed("a folder of MIMIC-III's tables is needed", where=str(folder), todo="name it in cohort.path")
    files: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        for ending in _ENDINGS:
            if file.name.lower().endswith(ending):
                files.setdefault(file.name.lower().removesuffix(ending), []).append(file)
                break
    missing = [name.upper() for name in names if name not in files]
    if missing:
        todo = f"put them there as {missing[0]}.csv, {missing[0]}.csv.gz or {missing[0]}.parquet"
        raise CheckFailed(f"tables are missing: {', '.join(missing)}", where=str(folder), todo=todo)
    for name in names:
        if len(files[name]) > 1:
            both = " and ".join(file.name for file in files[name])
            raise CheckFailed(f"{name.upper()} is there twice: {both}", where=str(folder), todo="keep one of them")
    return {name: RawTable(name, files[name][0], _columns(name, files[name][0])) for name in names}


def _columns(name: str, path: Path) -> dict[str, str]:
    found = header(path)
    spelled = {column.lower(): column for column in found}
    missing = [column for column in TABLES[name] if column not in spelled]
    if missing:
        other = [f"the fields seem to be divided by {word}" for sign, word in _DELIMITERS.items() if sign in found[0]]
        todo = other[0] + "; divide them by commas" if other else f"the file has: {', '.join(found)[:300]}"
        raise CheckFailed(f"{name.upper()} lacks the columns {', '.join(missing)}", where=str(path), todo=todo)
    return {column: spelled[column] for column in TABLES[name]}


def header(path: Path) -> list[str]:
    """The names of a file's columns, as it spells them."""
    if path.suffix.lower() == ".parquet":
        with _readable(path):
            return list(pq.read_schema(path).names)
    with _readable(path), path.open("rb") as plain, ExitStack() as also:
        stream = also.enter_context(gzip.open(plain)) if path.suffix.lower() == ".gz" else plain
        line = stream.readline(1 << 16)
    if not any(names := _names(line)):
        raise CheckFailed("the file is empty", where=str(path), todo="copy it again")
    return names


def _names(line: bytes) -> list[str]:
    return [cell.strip().strip('"') for cell in line.decode("utf-8-sig", "replace").strip().split(",")]


def stream(table: RawTable, tally: Tally, wanted: Wanted | None = None) -> Iterator[pl.DataFrame]:
    """The table's needed columns, in pieces: as text from CSV, as they are from Parquet. ``row`` counts from 1.

    A row with too many or too few fields goes to ``tally``.

    Raises:
        CheckFailed: the file ends early, or is no file of its kind.
    """
    kept: list[pa.RecordBatch] = []
    numbers: list[NDArray[np.int64]] = []
    held = passed = 0
    with _readable(table.path), closing(_pieces(table, wanted)) as pieces:
        for piece in pieces:
            for spoilt in piece.misshapen:
                tally.misshapen(table.name, table.path.name, passed + spoilt.number, spoilt)
            if wanted:
                wanted.others.update(piece.others)
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


def _frame(batches: list[pa.RecordBatch], numbers: list[NDArray[np.int64]]) -> pl.DataFrame:
    frame = pl.from_arrow(pa.Table.from_batches(batches))
    assert isinstance(frame, pl.DataFrame)
    text = pl.col(pl.Binary).cast(pl.String, strict=False).fill_null("\N{REPLACEMENT CHARACTER}")
    return frame.with_columns(text).with_columns(row=pl.Series(np.concatenate(numbers), dtype=pl.Int64))


def _pieces(table: RawTable, wanted: Wanted | None) -> Generator[Piece]:
    spelled = list(table.columns.values())
    if table.parquet:
        with pq.ParquetFile(table.path) as file:
            for batch in file.iter_batches(batch_size=1 << 17, columns=spelled):
                yield _sifted(batch, wanted, batch.num_rows, [])
        return

    def parse(names: list[str], block: bytes) -> Piece:
        misshapen: list[Any] = []

        def aside(row: Any) -> str:
            misshapen.append(row)
            return "skip"

        def read_as(types: dict[str, pa.DataType]) -> pa.Table:
            misshapen.clear()
            return pa.csv.read_csv(
                pa.BufferReader(block),
                read_options=pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(block) + 1),
                parse_options=pa.csv.ParseOptions(invalid_row_handler=aside),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=spelled, column_types=types, check_utf8=False, null_values=[""]
                ),
            )

        try:
            read = read_as({column: _KINDS.get(name, pa.binary()) for name, column in table.columns.items()})
        except pa.ArrowInvalid:  # a cell that is not of its kind: as text, its row can be told from the others
            read = read_as(dict.fromkeys(spelled, pa.binary()))
        batches = read.combine_chunks().to_batches()
        batch = batches[0] if batches else pa.RecordBatch.from_pylist([], read.schema)
        return _sifted(batch, wanted, batch.num_rows + len(misshapen), misshapen)

    yield from _in_order(table, parse)


def _sifted(batch: pa.RecordBatch, wanted: Wanted | None, passed: int, misshapen: list[Any]) -> Piece:
    named = batch.rename_columns([name.lower() for name in batch.schema.names])
    rows = np.arange(named.num_rows)
    if misshapen:  # each of them moves the rows behind it on by one
        rows = np.delete(np.arange(passed), [row.number - 1 for row in misshapen])
    if wanted is None:
        return Piece(named, rows, passed, {}, misshapen)
    mask, others = wanted.mask(named)
    return Piece(named.filter(pa.array(mask)), rows[mask], passed, others, misshapen)


def _in_order(table: RawTable, parse: Callable[[list[str], bytes], Piece]) -> Iterator[Piece]:
    """The CSV's blocks, unpacked in one thread and parsed in others, in the file's order."""
    coming: queue.Queue[Future[Piece] | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def feed() -> None:
        try:
            with _unpacked(table.path) as raw:
                names = _names(raw.readline())
                for block in _blocks(raw):
                    if stopped.is_set():
                        return
                    coming.put(pool.submit(parse, names, block))
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


def _blocks(raw: BinaryIO) -> Iterator[bytes]:
    """Whole lines, some megabytes at once. A line break inside quotes breaks its row: no table read here has one."""
    rest = b""
    while block := raw.read(_BLOCK):
        cut = block.rfind(b"\n") + 1
        if not cut:
            rest += block
            continue
        yield b"".join((rest, memoryview(block)[:cut]))
        rest = block[cut:]
    if rest.strip():
        yield rest


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    stream: BinaryIO
    if path.suffix.lower() == ".gz":
        with igzip_threaded.open(path, "rb", threads=1, block_size=1 << 20) as stream:
            yield stream
    else:
        with path.open("rb") as stream:
            yield stream


_SPOILT = (pa.ArrowException, EOFError, gzip.BadGzipFile, OSError)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except _SPOILT as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        early = isinstance(error, EOFError) or "end-of-stream" in what or "EOF" in what
        said = "the file ends early (it is not the whole file)" if early else f"the file cannot be read: {what}"
        raise CheckFailed(said, where=str(path), todo="copy it again and compare its checksum") from error


def digest(tables: dict[str, RawTable]) -> str:
    """sha256 over the names and the contents of the files, two of them at a time."""

    def of(table: RawTable) -> str:
        with _readable(table.path), table.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        found = dict(zip(tables, pool.map(of, tables.values()), strict=True))
    return hashlib.sha256("".join(f"{name} {found[name]}\n" for name in sorted(found)).encode()).hexdigest()
