"""The raw tables as files: where they are, and which columns are needed."""

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

TABLES: dict[str, tuple[str, ...]] = {
    "icustays": (
        "subject_id",
        "hadm_id",
        "icustay_id",
        "dbsource",
        "first_careunit",
        "intime",
        "outtime",
    ),
    "admissions": ("subject_id", "hadm_id", "admittime", "dischtime", "admission_type"),
    "patients": ("subject_id", "gender", "dob"),
    "services": ("hadm_id", "transfertime", "curr_service"),
    "chartevents": (
        *("subject_id", "icustay_id", "itemid", "charttime", "storetime"),
        *("value", "valuenum", "error"),
    ),
    "labevents": ("subject_id", "itemid", "charttime", "value", "valuenum", "valueuom"),
    "outputevents": (
        "subject_id",
        "icustay_id",
        "itemid",
        "charttime",
        "storetime",
        "value",
        "iserror",
    ),
    "procedureevents_mv": (
        *("subject_id", "icustay_id", "itemid", "starttime", "endtime", "storetime"),
        "statusdescription",
    ),
    "inputevents_cv": (
        *("subject_id", "icustay_id", "itemid", "charttime", "storetime"),
        *("amount", "amountuom", "rate", "rateuom", "stopped"),
    ),
    "inputevents_mv": (
        *(
            "subject_id",
            "icustay_id",
            "itemid",
            "starttime",
            "endtime",
            "storetime",
            "amount",
            "amountuom",
        ),
        *("rate", "rateuom", "ordercategorydescription", "patientweight", "statusdescription"),
    ),
    "prescriptions": ("hadm_id", "startdate", "enddate", "drug_type", "drug", "route"),
    "microbiologyevents": ("hadm_id", "chartdate", "charttime", "spec_type_desc"),
}
"""The tables that are read, and of each the columns that are needed."""

_ENDINGS = (".csv.gz", ".csv", ".parquet")
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


def find(folder: Path, names: tuple[str, ...]) -> dict[str, RawTable]:
    """The tables in the folder, with all the columns that are needed of each.

    Raises:
        CheckFailed: a table or a column is missing, or a table is there twice.
    """
    if not folder.is_dir():
        raise CheckFailed(
            "a folder of MIMIC-III's tables is needed",
            where=str(folder),
            todo="name it in cohort.path",
        )
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
            raise CheckFailed(
                f"{name.upper()} is there twice: {both}", where=str(folder), todo="keep one of them"
            )
    return {name: RawTable(name, files[name][0], _columns(name, files[name][0])) for name in names}


def _columns(name: str, path: Path) -> dict[str, str]:
    found = header(path)
    spelled = {column.lower(): column for column in found}
    missing = [column for column in TABLES[name] if column not in spelled]
    if missing:
        other = [
            f"the fields seem to be divided by {word}"
            for sign, word in _DELIMITERS.items()
            if sign in found[0]
        ]
        todo = (
            other[0] + "; divide them by commas"
            if other
            else f"the file has: {', '.join(found)[:300]}"
        )
        raise CheckFailed(
            f"{name.upper()} lacks the columns {', '.join(missing)}", where=str(path), todo=todo
        )
    return {column: spelled[column] for column in TABLES[name]}


def header(path: Path) -> list[str]:
    """The names of a file's columns, as it spells them."""
    if path.suffix.lower() == ".parquet":
        with readable(path):
            return list(pq.read_schema(path).names)
    with readable(path), path.open("rb") as plain, ExitStack() as also:
        stream = also.enter_context(gzip.open(plain)) if path.suffix.lower() == ".gz" else plain
        line = stream.readline(1 << 16)
    if not any(names := names_in(line)):
        raise CheckFailed("the file is empty", where=str(path), todo="copy it again")
    return names


def names_in(line: bytes) -> list[str]:
    """The cells of a header's line."""
    return [
        cell.strip().strip('"') for cell in line.decode("utf-8-sig", "replace").strip().split(",")
    ]


_SPOILT = (pa.ArrowException, EOFError, gzip.BadGzipFile, zlib.error, OSError, UnicodeError)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What goes wrong on reading the file, said in words.

    Raises:
        CheckFailed: the file ends early, or is no file of its kind.
    """
    try:
        yield
    except _SPOILT as error:
        what = first_line(error)
        early = isinstance(error, EOFError) or "end-of-stream" in what or "EOF" in what
        said = (
            "the file ends early (it is not the whole file)"
            if early
            else f"the file cannot be read: {what}"
        )
        raise CheckFailed(
            said, where=str(path), todo="copy it again and compare its checksum"
        ) from error


def digest(tables: dict[str, RawTable]) -> str:
    """sha256 over the names and the contents of the files, two of them at a time."""

    def of(table: RawTable) -> str:
        with readable(table.path), table.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        found = dict(zip(tables, pool.map(of, tables.values()), strict=True))
    return hashlib.sha256(
        "".join(f"{name} {found[name]}\n" for name in sorted(found)).encode()
    ).hexdigest()
