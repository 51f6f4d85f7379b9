"""The raw tables' files, and the columns that are needed of each."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flowsheet.errors import CheckFailed, first_line
from flowsheet.state.hashing import file_digest

_COLUMNS = {
    "icustays": "subject_id hadm_id icustay_id dbsource first_careunit intime outtime",
    "admissions": "subject_id hadm_id admittime dischtime admission_type",
    "patients": "subject_id gender dob",
    "services": "hadm_id transfertime curr_service",
    "chartevents": "subject_id icustay_id itemid charttime storetime value valuenum error",
    "labevents": "subject_id itemid charttime value valuenum valueuom",
    "outputevents": "subject_id icustay_id itemid charttime storetime value iserror",
    "procedureevents_mv": (
        "subject_id icustay_id itemid starttime endtime storetime statusdescription"
    ),
    "inputevents_cv": (
        "subject_id icustay_id itemid charttime storetime amount amountuom rate rateuom stopped"
    ),
    "inputevents_mv": (
        "subject_id icustay_id itemid starttime endtime storetime amount amountuom rate rateuom "
        "ordercategorydescription patientweight statusdescription"
    ),
    "prescriptions": "hadm_id startdate enddate drug_type drug route",
    "microbiologyevents": "hadm_id chartdate charttime spec_type_desc",
}

TABLES: dict[str, tuple[str, ...]] = {
    table: tuple(columns.split()) for table, columns in _COLUMNS.items()
}
"""The tables that are read, and the columns that are needed of each."""

_OPTIONAL_COLUMNS = {
    "admissions": "edregtime deathtime hospital_expire_flag ethnicity insurance",
    "inputevents_cv": "hadm_id",
    "inputevents_mv": "hadm_id",
}

OPTIONAL_COLUMNS: dict[str, tuple[str, ...]] = {
    table: tuple(columns.split()) for table, columns in _OPTIONAL_COLUMNS.items()
}
"""Columns that are read where a file has them; MIMIC-III's own files do."""

_SUFFIXES = (".csv.gz", ".csv", ".parquet")
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class RawTable:
    """One raw table on disk."""

    name: str
    path: Path
    columns: dict[str, str]
    """The needed columns: the lower-case name, and the name as the file spells it."""

    @property
    def is_parquet(self) -> bool:
        """Whether the file is Parquet, not CSV."""
        return self.path.suffix.lower() == ".parquet"


def find_tables(folder: Path, names: tuple[str, ...]) -> dict[str, RawTable]:
    """Find the files of the tables, and check that they have all needed columns.

    Raises:
        CheckFailed: a table or a column is missing, or there are two files of one table.
    """
    if not folder.is_dir():
        raise CheckFailed(
            "this is not a folder of MIMIC-III's tables",
            where=str(folder),
            todo="set cohort.path to the folder with the CSV or Parquet files",
        )
    files = _group_files(folder)
    missing = [name.upper() for name in names if name not in files]
    if missing:
        todo = f"add {missing[0]}.csv, {missing[0]}.csv.gz or {missing[0]}.parquet to the folder"
        raise CheckFailed(f"tables are missing: {', '.join(missing)}", where=str(folder), todo=todo)
    for name in names:
        if len(files[name]) > 1:
            duplicates = " and ".join(file.name for file in files[name])
            raise CheckFailed(
                f"two files have the table {name.upper()}: {duplicates}",
                where=str(folder),
                todo="keep one of them",
            )
    return {
        name: RawTable(name, files[name][0], _find_columns(name, files[name][0])) for name in names
    }


def _group_files(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        for suffix in _SUFFIXES:
            if file.name.lower().endswith(suffix):
                files.setdefault(file.name.lower().removesuffix(suffix), []).append(file)
                break
    return files


def _find_columns(name: str, path: Path) -> dict[str, str]:
    header = read_header(path)
    spelling = {column.lower(): column for column in header}
    missing = [column for column in TABLES[name] if column not in spelling]
    if missing:
        raise CheckFailed(
            f"{name.upper()} lacks the columns {', '.join(missing)}",
            where=str(path),
            todo=_advise_on_columns(header),
        )
    optional = [column for column in OPTIONAL_COLUMNS.get(name, ()) if column in spelling]
    return {column: spelling[column] for column in (*TABLES[name], *optional)}


def _advise_on_columns(header: list[str]) -> str:
    for sign, word in _DELIMITERS.items():
        if sign in header[0]:
            return f"the fields seem to be separated by {word}; separate them by commas"
    return f"the file has: {', '.join(header)[:300]}"


def read_header(path: Path) -> list[str]:
    """The names of a file's columns, as it spells them."""
    if path.suffix.lower() == ".parquet":
        with raise_as_check_failed(path):
            return list(pq.read_schema(path).names)
    with raise_as_check_failed(path), path.open("rb") as file, ExitStack() as stack:
        is_gzip = path.suffix.lower() == ".gz"
        stream = stack.enter_context(gzip.open(file)) if is_gzip else file
        line = stream.readline(1 << 16)
    names = split_header(line)
    if not any(names):
        raise CheckFailed("the file is empty", where=str(path), todo="copy it again")
    return names


def split_header(line: bytes) -> list[str]:
    """The cells of a CSV's header, without quotes and byte order mark."""
    cells = line.decode("utf-8-sig", "replace").strip().split(",")
    return [cell.strip().strip('"') for cell in cells]


_READ_ERRORS = (pa.ArrowException, EOFError, gzip.BadGzipFile, zlib.error, OSError, UnicodeError)


@contextmanager
def raise_as_check_failed(path: Path) -> Iterator[None]:
    """Turn errors on reading the file into one that names the file.

    Raises:
        CheckFailed: the file ends early, or cannot be read.
    """
    try:
        yield
    except _READ_ERRORS as error:
        reason = first_line(error)
        is_early_end = isinstance(error, EOFError) or "end-of-stream" in reason or "EOF" in reason
        what = (
            "the file ends early (it is incomplete)"
            if is_early_end
            else f"the file cannot be read: {reason}"
        )
        raise CheckFailed(
            what, where=str(path), todo="copy it again and compare its checksum"
        ) from error


def digest_tables(tables: dict[str, RawTable]) -> str:
    """sha256 over the names and the contents of the files; two files are read at a time."""

    def digest_table(table: RawTable) -> str:
        with raise_as_check_failed(table.path):
            return file_digest(table.path)

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        digests = dict(zip(tables, pool.map(digest_table, tables.values()), strict=True))
    lines = "".join(f"{name} {digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()
