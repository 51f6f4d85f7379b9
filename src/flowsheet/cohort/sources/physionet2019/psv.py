"""The psv files of the PhysioNet 2019 challenge: find them in a folder or a zip, and parse them.

A defect of a file's structure makes the whole file unusable and becomes a row of
``ParsedFiles.defects``, because nothing else in the file can be trusted. A text in place of a
measurement is a defect of that measurement alone.
"""

from __future__ import annotations

import gzip
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np
import polars as pl

from flowsheet.cohort.record_files import (
    DECOMPRESSION_ERRORS,
    find_unread_files,
    is_hidden,
    walk_files,
)
from flowsheet.errors import CheckFailed
from flowsheet.typing import Ints

_FILE_NAME = re.compile(r"p(\d{1,9})\.psv(\.gz)?", re.IGNORECASE)
_SUFFIXES = (".psv", ".psv.gz")
_OTHER_FILE = re.compile(r"p\d{1,9}\..*", re.IGNORECASE)
NEWLINE = ord("\n")
SEPARATOR = ord("|")

FILE_DEFECTS: dict[str, pl.DataType] = {
    "patient": pl.Int64(),
    "file": pl.String(),
    "row": pl.Int64(),  # of the data, from 1, without the header; null: the whole file
    "column": pl.String(),
    "rule": pl.String(),
    "value": pl.String(),
}

_ROW_KEYS: dict[str, pl.DataType] = {
    "patient": pl.Int64(),
    "file": pl.String(),
    "row": pl.Int64(),
}


class _Defect(NamedTuple):
    """Columns of ``FILE_DEFECTS``."""

    patient: int
    file: str
    row: int | None
    column: str | None
    rule: str
    value: str


class _Member(NamedTuple):
    """One patient's file without its header."""

    patient: int
    file: str
    body: bytes


@dataclass(frozen=True)
class PsvFiles:
    """The names of all psv files, and how to read them."""

    names: list[str]
    read: Callable[[str], bytes]
    unread: list[str]
    """Files that seem to be of a patient, but are no psv files."""

    def by_patient(self) -> dict[int | None, list[str]]:
        """File names by the patient's number, ascending; None: names without a number."""
        names: dict[int | None, list[str]] = {}
        for name in self.names:
            match = _FILE_NAME.fullmatch(PurePosixPath(name).name)
            names.setdefault(int(match[1]) if match else None, []).append(name)
        return dict(sorted(names.items(), key=lambda item: -1 if item[0] is None else item[0]))


class FileTooLarge(Exception):
    """A file has more bytes than a patient's record can have."""


@contextmanager
def open_files(path: Path, max_bytes: int) -> Iterator[PsvFiles]:
    """The psv files in a folder and its subfolders, or in a zip.

    Args:
        path: the folder or zip.
        max_bytes: larger files are not read; reading them raises ``FileTooLarge``.

    Raises:
        CheckFailed: there is no psv file, or the zip is not one or incomplete.
    """
    if path.is_dir():
        names = [file.relative_to(path).as_posix() for file in walk_files(path, _SUFFIXES)]
        others = find_unread_files(path, _SUFFIXES)
        unread = [file.name for file in others if _OTHER_FILE.fullmatch(file.name)]
        opened = PsvFiles(
            names, lambda name: _read_limited((path / name).open("rb"), name, max_bytes), unread
        )
        yield _check_any(path, opened)
        return
    try:
        archive = zipfile.ZipFile(path)
    except DECOMPRESSION_ERRORS as error:
        raise CheckFailed(
            f"the file is not a complete zip archive: {error}",
            where=str(path),
            todo="download it again, or specify a folder of .psv files",
        ) from error
    with archive:
        members = sorted(name for name in archive.namelist() if not is_hidden(name))
        names = [name for name in members if name.lower().endswith(_SUFFIXES)]
        other_names = [PurePosixPath(name).name for name in members if name not in set(names)]
        unread = [name for name in other_names if _OTHER_FILE.fullmatch(name)]
        opened = PsvFiles(
            names, lambda name: _read_limited(archive.open(name), name, max_bytes), unread
        )
        yield _check_any(path, opened)


def _read_limited(stream: IO[bytes], name: str, max_bytes: int) -> bytes:
    """All of a stream, of which no more than ``max_bytes`` is ever in memory."""
    with stream:
        is_gzip = name.lower().endswith(".gz")
        plain = gzip.GzipFile(fileobj=stream) if is_gzip else stream
        content = plain.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise FileTooLarge(f"more than {max_bytes:,} bytes")
    return content


def _check_any(path: Path, files: PsvFiles) -> PsvFiles:
    if not files.names:
        todo = "specify the folder or zip that contains the patients' p*.psv files"
        raise CheckFailed("there are no .psv files", where=str(path), todo=todo)
    return files


@dataclass(frozen=True)
class ParsedFiles:
    """Rows of many patients."""

    rows: pl.DataFrame
    """``patient``, ``file``, ``row`` and every column as a number, null where not measured."""
    defects: pl.DataFrame
    """Unusable files, and texts in place of numbers; columns as in ``FILE_DEFECTS``."""


def parse_files(
    files: list[tuple[int, str]], read: Callable[[str], bytes], columns: list[str]
) -> ParsedFiles:
    """Read (patient, name) files and parse them; files with equal headers are parsed together."""
    by_header: dict[tuple[str, ...], list[_Member]] = {}
    defects: list[_Defect] = []
    for patient, name in files:
        try:
            header, body = _split_header(read(name))
        except FileTooLarge as error:
            defects.append(_Defect(patient, name, None, None, "file_size", str(error)))
            continue
        except DECOMPRESSION_ERRORS as error:
            defects.append(_Defect(patient, name, None, None, "unreadable_file", str(error)))
            continue
        member = _Member(patient, name, body)
        defect = _check_header(member, header, columns) or _check_body(member)
        if defect:
            defects.append(defect)
        else:
            by_header.setdefault(header, []).append(member)
    schema = {**_ROW_KEYS, **dict.fromkeys(columns, pl.String())}
    parts = [pl.DataFrame(schema=schema)]
    for header, members in by_header.items():
        texts, ragged = _parse_members(list(header), members)
        parts.append(texts.select(list(schema)))
        defects += ragged
    rows, not_numbers = _convert_to_numbers(pl.concat(parts).sort("patient", "row"), columns)
    unusable = pl.DataFrame(defects, schema=FILE_DEFECTS, orient="row")
    return ParsedFiles(rows, pl.concat([unusable, not_numbers]))


def _split_header(data: bytes) -> tuple[tuple[str, ...], bytes]:
    """The column names, and the rows with one newline after each."""
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    header, _, body = data.partition(b"\n")
    body = body.rstrip(b"\n")
    return tuple(header.decode(errors="replace").split("|")), body + b"\n" if body else b""


def _check_header(member: _Member, header: tuple[str, ...], columns: list[str]) -> _Defect | None:
    """Every column must occur once; their order does not matter."""
    patient, file, _ = member
    if header == ("",):
        return _Defect(patient, file, None, None, "no_rows", "the file is empty")
    missing = [name for name in columns if name not in header]
    extra = [name for i, name in enumerate(header) if name not in columns or name in header[:i]]
    if not missing and not extra:
        return None
    parts = [f"missing: {', '.join(missing)}"] if missing else []
    parts += [f"extra: {', '.join(extra)}"] if extra else []
    return _Defect(patient, file, None, (missing + extra)[0], "columns", "; ".join(parts))


def _check_body(member: _Member) -> _Defect | None:
    patient, file, body = member
    if not body:
        return _Defect(patient, file, None, None, "no_rows", "the file has only a header")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        row = body.count(b"\n", 0, error.start) + 1
        value = f"byte 0x{body[error.start]:02x} is not UTF-8"
        return _Defect(patient, file, row, None, "encoding", value)
    return None


def _parse_members(header: list[str], members: list[_Member]) -> tuple[pl.DataFrame, list[_Defect]]:
    """The cells of files with one header as texts, null where nothing was measured.

    Files with a ragged row are left out and returned as defects.
    """
    n_rows = [member.body.count(b"\n") for member in members]
    all_bodies = b"".join(member.body for member in members)
    ragged = _find_ragged_rows(all_bodies, np.array(n_rows), len(header))
    defects = [
        _Defect(
            members[i].patient,
            members[i].file,
            row,
            None,
            "fields",
            f"{fields} fields, not {len(header)}",
        )
        for i, (row, fields) in ragged.items()
    ]
    usable = [i for i in range(len(members)) if i not in ragged]
    if not usable:
        return pl.DataFrame(schema={**_ROW_KEYS, **dict.fromkeys(header, pl.String())}), defects
    texts = pl.read_csv(
        b"".join(members[i].body for i in usable),
        separator="|",
        has_header=False,
        new_columns=header,
        null_values=["NaN", ""],
        infer_schema=False,
        quote_char=None,
    )
    n = np.array([n_rows[i] for i in usable])
    position = np.repeat(np.arange(len(usable)), n)
    row = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n) + 1
    files = pl.Series([members[i].file for i in usable])
    patients = np.array([members[i].patient for i in usable], np.int64)
    keys = {
        "patient": pl.Series(patients[position]),
        "file": files.gather(position),
        "row": pl.Series(row),
    }
    return texts.with_columns(**keys), defects


def _find_ragged_rows(bodies: bytes, n_rows: Ints, fields: int) -> dict[int, tuple[int, int]]:
    """Position of the file -> (first row with another number of fields, that number)."""
    text = np.frombuffer(bodies, np.uint8)
    separators = np.flatnonzero(text == SEPARATOR)
    newlines = np.flatnonzero(text == NEWLINE)
    separators_per_row = np.diff(np.searchsorted(separators, newlines), prepend=0)
    ragged = np.flatnonzero(separators_per_row + 1 != fields)
    ends = np.cumsum(n_rows)
    position = np.searchsorted(ends, ragged, side="right")
    result: dict[int, tuple[int, int]] = {}
    for i, row in zip(position.tolist(), ragged.tolist(), strict=True):
        row_in_file = row - int(ends[i] - n_rows[i]) + 1
        result.setdefault(i, (row_in_file, int(separators_per_row[row]) + 1))
    return result


def _convert_to_numbers(
    texts: pl.DataFrame, columns: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The texts as numbers, and a defect for each text that is not a number."""
    rows = texts.with_columns(pl.col(columns).cast(pl.Float64, strict=False).fill_nan(None))
    defects = [pl.DataFrame(schema=FILE_DEFECTS)]
    for column in columns:
        if texts[column].null_count() != rows[column].null_count():
            defects.append(_find_texts(texts, rows, column))
    return rows, pl.concat(defects)


def _find_texts(texts: pl.DataFrame, rows: pl.DataFrame, column: str) -> pl.DataFrame:
    is_nan = texts[column].str.to_lowercase() == "nan"
    is_text = texts[column].is_not_null() & rows[column].is_null() & ~is_nan
    return texts.filter(is_text).select(
        "patient", "file", "row", column=pl.lit(column), rule=pl.lit("number"), value=pl.col(column)
    )
