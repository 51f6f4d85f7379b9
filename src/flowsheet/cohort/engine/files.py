"""The raw tables' files, and the columns that are needed of each."""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO

import polars as pl
import pyarrow.parquet as pq

from flowsheet.cohort.engine.cells import (
    NO_ZONES,
    CellKind,
    TimeZones,
    find_stated_zones,
    find_type_problem,
)
from flowsheet.cohort.engine.database import Database, TableSpec
from flowsheet.cohort.record_files import find_table_files, report_unreadable
from flowsheet.errors import CheckFailed
from flowsheet.state.hashing import file_digest

_SUFFIXES = (".csv.gz", ".csv", ".parquet")
_MAX_HEADER_BYTES = 1 << 16
_HEAD_ROWS = 200
"""Rows of a file in which zones of times are looked for."""
_TIMES = (CellKind.time, CellKind.day)
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class RawFile:
    """One file of a raw table."""

    path: Path
    columns: dict[str, str]
    """The needed columns: the field, and the name as the file spells it."""
    stated_zones: frozenset[bool] = frozenset()
    """Whether the times state their zone (both: some do), where the database has one."""

    @property
    def is_parquet(self) -> bool:
        """Whether the file is Parquet, not CSV."""
        return self.path.suffix.lower() == ".parquet"


@dataclass(frozen=True)
class RawTable:
    """One raw table on disk, in one file or in several that are read one after the other."""

    name: str
    spec: TableSpec
    files: tuple[RawFile, ...]
    zones: TimeZones = NO_ZONES
    max_line_bytes: int = 8 << 20
    """A longer line of a CSV file is refused."""
    item_numbers: Mapping[str, int] | None = None
    """The numbers of items that are texts."""
    text_ids: bool = False
    """Whether ids may be texts."""

    @cached_property
    def kinds(self) -> dict[str, CellKind]:
        """The fields that are read, and what each contains in the files."""
        kinds = dict(self.spec.kinds)
        if self.item_numbers is not None and "item" in kinds:
            kinds["item"] = CellKind.text
        if self.text_ids:
            ids = [field for field, kind in kinds.items() if kind is CellKind.id]
            kinds |= dict.fromkeys(ids, CellKind.text_id)
        return kinds


def find_tables(
    database: Database,
    folder: Path,
    names: tuple[str, ...],
    time_zone: str | None,
    max_line_bytes: int,
) -> dict[str, RawTable]:
    """Find the files of the tables, and check that they have all needed columns.

    Args:
        database: the database.
        folder: the folder with the tables.
        names: the tables to find.
        time_zone: the zone of the parsed times; None: that of the database. If there is none,
            times that state a zone are refused.
        max_line_bytes: a longer line of a CSV file is refused.

    Raises:
        CheckFailed: a table or a column is missing, a Parquet column has a wrong type, or there are
            two files of one table.
    """
    if not folder.is_dir():
        raise CheckFailed(
            f"this is not a folder of {database.spec.title}'s tables",
            where=str(folder),
            todo="set cohort.path to the folder with the CSV or Parquet files",
        )
    folders = [folder, *(folder / name for name in database.spec.folders)]
    paths = {name: _find_files(name, folders) for name in names}
    tables = database.tables
    paths = {name: found for name, found in paths.items() if found or not tables[name].optional}
    zones = TimeZones(database.spec.time_zone, time_zone or database.spec.time_zone)
    missing = [name.upper() for name, found in paths.items() if not found]
    if missing:
        todo = f"add {missing[0]}.csv, {missing[0]}.csv.gz or {missing[0]}.parquet to the folder"
        raise CheckFailed(f"tables are missing: {', '.join(missing)}", where=str(folder), todo=todo)
    found_tables = {
        name: RawTable(
            name,
            tables[name],
            tuple(_open_file(name, tables[name], path, zones) for path in found),
            zones,
            max_line_bytes,
            database.items.numbers_of(name),
            database.spec.text_ids,
        )
        for name, found in paths.items()
    }
    if zones.source is not None:
        _check_zones(found_tables)
    return found_tables


def _check_zones(tables: Mapping[str, RawTable]) -> None:
    """Refuse files of which some state the zone of their times and others do not.

    In a database whose times have one zone, those without it may be local times.
    """
    files = [file for table in tables.values() for file in table.files]
    zoned = [file.path.name for file in files if True in file.stated_zones]
    naive = [file.path.name for file in files if False in file.stated_zones]
    if zoned and naive:
        raise CheckFailed(
            f"times have a time zone in {zoned[0]} and none in {naive[0]}",
            where=str(files[0].path.parent),
            todo="write all of them in UTC, with that zone",
        )


def _find_files(name: str, folders: list[Path]) -> list[Path]:
    """The files of a table in one of the folders.

    Raises:
        CheckFailed: two folders have the table.
    """
    found = [find_table_files(folder, name, _SUFFIXES) for folder in folders if folder.is_dir()]
    found = [files for files in found if files]
    if len(found) > 1:
        raise CheckFailed(
            f"two folders have the table {name.upper()}: "
            + " and ".join(str(files[0].parent) for files in found),
            where=str(folders[0]),
            todo="keep one of them",
        )
    return found[0] if found else []


def _open_file(name: str, table: TableSpec, path: Path, zones: TimeZones) -> RawFile:
    file = RawFile(path, _find_columns(name, table, path))
    if file.is_parquet:
        _check_types(table, file, zones.target)
    if zones.source is None:
        return file
    times = [column for field, column in file.columns.items() if table.kinds[field] in _TIMES]
    return replace(file, stated_zones=_find_stated_zones(_read_head(file, times)))


def _find_stated_zones(head: pl.DataFrame) -> frozenset[bool]:
    """Whether the times of a file state their zone, by its columns' types and first rows."""
    stated: set[bool] = set()
    for column in head:
        if isinstance(column.dtype, pl.Datetime):
            stated.add(column.dtype.time_zone is not None)
        elif column.dtype == pl.String:
            stated |= find_stated_zones(column)
    return frozenset(stated)


def _read_head(file: RawFile, columns: list[str]) -> pl.DataFrame:
    """Columns of the first rows of a file; those of a CSV file as text."""
    if file.is_parquet:
        with report_unreadable(file.path):
            return pl.scan_parquet(file.path).select(columns).head(_HEAD_ROWS).collect()
    with _open_csv(file.path) as stream:
        lines = [stream.readline(_MAX_HEADER_BYTES) for _ in range(_HEAD_ROWS + 1)]
    rows: list[list[str]] = []
    with suppress(csv.Error):  # the reader of the whole file names malformed rows
        rows = list(csv.reader(line.decode("utf-8", "replace") for line in lines[1:]))
    header = split_header(lines[0])
    rows = [row for row in rows if len(row) == len(header)]
    cells = {name: [row[header.index(name)] for row in rows] for name in columns}
    return pl.DataFrame(cells, dict.fromkeys(columns, pl.String()))


def _check_types(table: TableSpec, file: RawFile, time_zone: str | None) -> None:
    """Refuse a Parquet column of a type that would have to be guessed at."""
    with report_unreadable(file.path):
        frame = pl.from_arrow(pq.read_schema(file.path).empty_table())
    assert isinstance(frame, pl.DataFrame)
    for field, spelling in file.columns.items():
        dtype = frame.schema[spelling]
        expected = find_type_problem(dtype, table.kinds[field], time_zone)
        if expected:
            is_zoned = bool(getattr(dtype, "time_zone", None))
            zone = "set cohort.options.time_zone to the hospital's, such as America/New_York, or "
            raise CheckFailed(
                f"the column {spelling!r} contains {dtype}, not {expected}",
                where=str(file.path),
                todo=f"{zone if is_zoned else ''}write it with that type",
            )


def _find_columns(name: str, table: TableSpec, path: Path) -> dict[str, str]:
    header = read_header(path)
    spelling = {column.lower(): column for column in header}
    names = {field: column for field, column in table.names.items() if column in spelling}
    missing = {
        column: None
        for field, column in table.names.items()
        if field not in names and field not in table.optional_fields
    }
    if missing:
        raise CheckFailed(
            f"{name.upper()} lacks the columns {', '.join(missing)}",
            where=str(path),
            todo=_advise_on_columns(header),
        )
    return {field: spelling[column] for field, column in names.items()}


def _advise_on_columns(header: list[str]) -> str:
    for sign, word in _DELIMITERS.items():
        if sign in header[0]:
            return f"the fields seem to be separated by {word}; separate them by commas"
    return f"the file has: {', '.join(header)[:300]}"


def read_header(path: Path) -> list[str]:
    """The names of a file's columns, as it spells them.

    Raises:
        CheckFailed: the file cannot be read, is empty, or its encoding or line ends are unknown.
    """
    if path.suffix.lower() == ".parquet":
        with report_unreadable(path):
            return list(pq.read_schema(path).names)
    with _open_csv(path) as stream:
        line = stream.readline(_MAX_HEADER_BYTES)
    if b"\0" in line:
        todo = "write it as UTF-8; it seems to be UTF-16"
        raise CheckFailed("the file is not UTF-8 text", where=str(path), todo=todo)
    if b"\r" in line.rstrip(b"\r\n") or len(line) == _MAX_HEADER_BYTES:
        what = "the first line does not end: the file has carriage returns alone as line ends"
        raise CheckFailed(what, where=str(path), todo="write it with line feeds as line ends")
    names = split_header(line)
    if not any(names):
        raise CheckFailed("the file is empty", where=str(path), todo="copy it again")
    return names


@contextmanager
def _open_csv(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with report_unreadable(path), path.open("rb") as file, ExitStack() as stack:
        is_gzip = path.suffix.lower() == ".gz"
        yield stack.enter_context(gzip.GzipFile(fileobj=file)) if is_gzip else file


def split_header(line: bytes) -> list[str]:
    """The cells of a CSV's header, without quotes and byte order mark."""
    cells = line.decode("utf-8-sig", "replace").strip().split(",")
    return [cell.strip().strip('"') for cell in cells]


def digest_tables(tables: dict[str, RawTable]) -> str:
    """sha256 over the names and the contents of the files; two files are read at a time."""
    files = [(name, file.path) for name in sorted(tables) for file in tables[name].files]

    def digest_file(path: Path) -> str:
        with report_unreadable(path):
            return file_digest(path)

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        digests = list(pool.map(digest_file, [path for _, path in files]))
    lines = (f"{name} {digest}\n" for (name, _), digest in zip(files, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
