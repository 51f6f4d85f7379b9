"""The raw tables as files: where they are, which columns are needed, and one streaming pass over each.

A CSV is unpacked in one thread, parsed in others and filtered block by block, as text; only rows that matter become
numbers and times later. So memory holds a few blocks, and a value that cannot be read spoils its row, not the table.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
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

_ENDINGS = (".csv.gz", ".csv", ".parquet")
_BLOCK = 8 << 20  # bytes of CSV parsed at once
_CHUNK = 400_000  # rows handed on at once
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
    others: dict[str, int] = field(default_factory=dict)
    known: pa.Array = field(init=False)

    def __post_init__(self) -> None:
        self.known = pa.array(self.values.cast(pl.String).to_list(), pa.string())

    def rows(self, batch: pa.RecordBatch) -> np.ndarray[Any, Any]:
        """Positions of the rows to keep."""
        coded = batch.column(self.column).dictionary_encode()
        texts = pc.fill_null(coded.dictionary.cast(pa.string()), "")
        keep = pc.is_in(texts, self.known).to_numpy(zero_copy_only=False)
        codes = coded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
        counts = np.bincount(codes, minlength=len(texts) + 1)
        for text, n in zip(texts.filter(pa.array(~keep)).to_pylist(), counts[:-1][~keep], strict=True):
            self.others[text] = self.others.get(text, 0) + int(n)
        if counts[-1]:
            self.others[""] = self.others.get("", 0) + int(counts[-1])
        return np.flatnonzero(np.append(keep, False)[codes])


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
    found = _header(path)
    spelled = {column.lower(): column for column in found}
    missing = [column for column in TABLES[name] if column not in spelled]
    if missing:
        other = [f"the fields seem to be divided by {word}" for sign, word in _DELIMITERS.items() if sign in found[0]]
        todo = other[0] + "; divide them by commas" if other else f"the file has: {', '.join(found)[:300]}"
        raise CheckFailed(f"{name.upper()} lacks the columns {', '.join(missing)}", where=str(path), todo=todo)
    return {column: spelled[column] for column in TABLES[name]}


def _header(path: Path) -> list[str]:
    if path.suffix.lower() == ".parquet":
        with _readable(path):
            return list(pq.read_schema(path).names)
    with _readable(path), path.open("rb") as plain, ExitStack() as also:
        stream = also.enter_context(gzip.open(plain)) if path.suffix.lower() == ".gz" else plain
        line = stream.readline(1 << 16)
    names = [cell.strip().strip('"') for cell in line.decode("utf-8-sig", "replace").strip().split(",")]
    if not any(names):
        raise CheckFailed("the file is empty", where=str(path), todo="copy it again")
    return names


def stream(table: RawTable, tally: Tally, wanted: Wanted | None = None) -> Iterator[pl.DataFrame]:
    """The table's needed columns, in pieces: as text from CSV, as they are from Parquet. ``row`` counts from 1.

    A row with too many or too few fields goes to ``tally``.

    Raises:
        CheckFailed: the file ends early, or is no file of its kind.
    """
    kept: list[pa.RecordBatch] = []
    numbers: list[np.ndarray[Any, Any]] = []
    held = passed = 0
    with _readable(table.path), _batches(table, tally) as batches:
        for spelled in batches:
            batch = spelled.rename_columns([name.lower() for name in spelled.schema.names])
            rows = wanted.rows(batch) if wanted else np.arange(batch.num_rows)
            kept.append(batch.take(pa.array(rows)) if len(rows) < batch.num_rows else batch)
            numbers.append(rows + passed + 1)
            passed, held = passed + batch.num_rows, held + len(rows)
            if held >= _CHUNK:
                yield _frame(kept, numbers)
                kept, numbers, held = [], [], 0
    tally.read[table.name] = passed
    if kept:
        yield _frame(kept, numbers)


def _frame(batches: list[pa.RecordBatch], numbers: list[np.ndarray[Any, Any]]) -> pl.DataFrame:
    frame = pl.from_arrow(pa.Table.from_batches(batches))
    assert isinstance(frame, pl.DataFrame)
    text = pl.col(pl.Binary).cast(pl.String, strict=False).fill_null("\N{REPLACEMENT CHARACTER}")
    return frame.with_columns(text).with_columns(row=pl.Series(np.concatenate(numbers), dtype=pl.Int64))


@contextmanager
def _batches(table: RawTable, tally: Tally) -> Iterator[Iterator[pa.RecordBatch]]:
    spelled = list(table.columns.values())
    if table.parquet:
        with pq.ParquetFile(table.path) as file:
            yield file.iter_batches(batch_size=1 << 17, columns=spelled)
        return

    def misshapen(row: Any) -> str:
        tally.misshapen(table.name, table.path.name, row.expected_columns, row.actual_columns, row.text)
        return "skip"

    with _unpacked(table.path) as raw:
        reader = pa.csv.open_csv(
            raw,
            read_options=pa.csv.ReadOptions(block_size=_BLOCK),
            parse_options=pa.csv.ParseOptions(invalid_row_handler=misshapen),
            convert_options=pa.csv.ConvertOptions(
                include_columns=spelled, column_types=dict.fromkeys(spelled, pa.binary()), check_utf8=False
            ),
        )
        with reader:
            yield iter(reader)


@contextmanager
def _unpacked(path: Path) -> Iterator[Any]:
    if path.suffix.lower() != ".gz":
        with pa.OSFile(str(path)) as plain:
            yield plain
        return
    stream: BinaryIO
    with igzip_threaded.open(path, "rb", threads=1) as stream:
        yield pa.PythonFile(stream, "r")


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
