"""Patients' files of the PhysioNet 2019 challenge: find them in a folder or a zip, and parse many
at once.

What is wrong with a whole file, and where, becomes a line of ``Parsed.spoilt``: nobody can say what
else in it is wrong, so the patient is set aside. A text where a measurement should be spoils that
measurement alone.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from flowsheet.errors import CheckFailed

_NAME = re.compile(r"p(\d{1,9})\.psv")
_LOST = (
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)
NEWLINE, BAR = ord("\n"), ord("|")

_Fault = tuple[int | None, str | None, str, str | None]
_Line = tuple[int, str, int | None, str | None, str, str | None]

SPOILT: dict[str, pl.DataType] = {
    "patient": pl.Int64(),
    "file": pl.String(),
    "row": pl.Int64(),  # of the data, counted from 1; the header is not counted; null: the file as a whole
    "column": pl.String(),
    "rule": pl.String(),
    "value": pl.String(),
}


@dataclass(frozen=True)
class Records:
    """Names of all psv files, and a way to their bytes."""

    names: list[str]
    read: Callable[[str], bytes]

    def by_patient(self) -> dict[int | None, list[str]]:
        """File names by the patient's number, ascending; None: names that tell no number."""
        found: dict[int | None, list[str]] = {}
        for name in self.names:
            match = _NAME.fullmatch(PurePosixPath(name).name)
            found.setdefault(int(match[1]) if match else None, []).append(name)
        return dict(sorted(found.items(), key=lambda item: -1 if item[0] is None else item[0]))


@contextmanager
def opened(path: Path) -> Iterator[Records]:
    """The records in a folder (however deep) or a zip.

    Raises:
        CheckFailed: there is no psv file, or the zip is none or was cut short.
    """
    if path.is_dir():
        names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*.psv") if p.is_file())
        yield _some(path, Records(names, lambda name: (path / name).read_bytes()))
        return
    try:
        archive = zipfile.ZipFile(path)
    except _LOST as error:
        what = f"the file is not a whole zip archive: {error}"
        raise CheckFailed(
            what, where=str(path), todo="fetch it again, or name a folder of .psv files"
        ) from error
    with archive:
        yield _some(
            path, Records(sorted(n for n in archive.namelist() if n.endswith(".psv")), archive.read)
        )


def _some(path: Path, records: Records) -> Records:
    names = [name for name in records.names if not PurePosixPath(name).name.startswith(".")]
    if not names:
        todo = "name the folder or zip that holds the patients' p*.psv files"
        raise CheckFailed("there are no .psv files", where=str(path), todo=todo)
    return Records(names, records.read)


@dataclass(frozen=True)
class Parsed:
    """Rows of many patients: ``patient``, ``file``, ``row`` and every column as a number, null where not measured."""

    rows: pl.DataFrame
    spoilt: pl.DataFrame
    """Files that cannot be used, and text where a number should be; columns as in ``SPOILT``."""


def parse(files: list[tuple[int, str]], read: Callable[[str], bytes], columns: list[str]) -> Parsed:
    """Read the files and parse them, those with like headers together."""
    groups: dict[tuple[str, ...], list[tuple[int, str, bytes]]] = {}
    spoilt: list[_Line] = []
    for patient, name in files:
        try:
            header, body = _split(read(name))
        except _LOST as error:
            spoilt.append((patient, name, None, None, "unreadable_file", str(error)))
            continue
        fault = _header_fault(header, columns) or _body_fault(body)
        if fault:
            spoilt.append((patient, name, *fault))
        else:
            groups.setdefault(header, []).append((patient, name, body))
    parts = [_parse_alike(list(header), members, spoilt) for header, members in groups.items()]
    schema = {
        "patient": pl.Int64(),
        "file": pl.String(),
        "row": pl.Int64(),
        **dict.fromkeys(columns, pl.String()),
    }
    texts = pl.concat(
        [pl.DataFrame(schema=schema), *(part.select(list(schema)) for part in parts)]
    ).sort("patient", "row")
    lost = pl.DataFrame(spoilt, schema=SPOILT, orient="row")
    rows, not_numbers = _numbers(texts, columns)
    return Parsed(rows, pl.concat([lost, not_numbers]))


def _split(data: bytes) -> tuple[tuple[str, ...], bytes]:
    """Column names, and the rows with one newline after each."""
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    header, _, body = data.partition(b"\n")
    body = body.rstrip(b"\n")
    return tuple(header.decode(errors="replace").split("|")), body + b"\n" if body else b""


def _header_fault(header: tuple[str, ...], columns: list[str]) -> _Fault | None:
    """Every column once, in whatever order: the header says which is which."""
    if header == ("",):
        return None, None, "no_rows", "the file is empty"
    missing = [name for name in columns if name not in header]
    extra = [name for i, name in enumerate(header) if name not in columns or name in header[:i]]
    told = [
        f"{word} {', '.join(names)}"
        for word, names in (("missing:", missing), ("extra:", extra))
        if names
    ]
    return (None, (missing + extra)[0], "columns", "; ".join(told)) if told else None


def _body_fault(body: bytes) -> _Fault | None:
    if not body:
        return None, None, "no_rows", "the file has a header only"
    try:
        body.decode()
    except UnicodeDecodeError as error:
        row = body.count(b"\n", 0, error.start) + 1
        return row, None, "encoding", f"byte 0x{body[error.start]:02x} is not UTF-8"
    return None


def _parse_alike(
    header: list[str], members: list[tuple[int, str, bytes]], spoilt: list[_Line]
) -> pl.DataFrame:
    """Texts of files with one header, null where nothing was measured."""
    lines = [body.count(b"\n") for _, _, body in members]
    ragged = _ragged(b"".join(body for _, _, body in members), np.array(lines), len(header))
    for i, (row, fields) in ragged.items():
        spoilt.append((*members[i][:2], row, None, "fields", f"{fields} fields, not {len(header)}"))
    kept = [i for i in range(len(members)) if i not in ragged]
    if not kept:
        return pl.DataFrame(
            schema={
                "patient": pl.Int64(),
                "file": pl.String(),
                "row": pl.Int64(),
                **dict.fromkeys(header, pl.String()),
            }
        )
    texts = pl.read_csv(
        b"".join(members[i][2] for i in kept),
        separator="|",
        has_header=False,
        new_columns=header,
        null_values=["NaN", ""],
        infer_schema=False,
        quote_char=None,
    )
    n = np.array([lines[i] for i in kept])
    which = np.repeat(np.arange(len(kept)), n)
    row = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n) + 1
    names = pl.Series([members[i][1] for i in kept])
    return texts.with_columns(
        patient=pl.Series(np.array([members[i][0] for i in kept], np.int64)[which]),
        file=names.gather(which),
        row=pl.Series(row),
    )


def _ragged(body: bytes, lines: np.ndarray, fields: int) -> dict[int, tuple[int, int]]:
    """File -> (first row with the wrong number of fields, that number)."""
    text = np.frombuffer(body, np.uint8)
    bars = np.diff(
        np.searchsorted(np.flatnonzero(text == BAR), np.flatnonzero(text == NEWLINE)), prepend=0
    )
    wrong = np.flatnonzero(bars + 1 != fields)
    ends = np.cumsum(lines)
    which = np.searchsorted(ends, wrong, side="right")
    first = {int(i): int(w) for i, w in zip(which[::-1], wrong[::-1], strict=True)}
    return {i: (w - int(ends[i] - lines[i]) + 1, int(bars[w]) + 1) for i, w in first.items()}


def _numbers(texts: pl.DataFrame, columns: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The texts as numbers, and a line for each that is none."""
    rows = texts.with_columns(pl.col(columns).cast(pl.Float64, strict=False).fill_nan(None))
    suspects = [name for name in columns if texts[name].null_count() != rows[name].null_count()]
    lines = [_not_numbers(texts, rows, name) for name in suspects]
    return rows, pl.concat([pl.DataFrame(schema=SPOILT), *lines])


def _not_numbers(texts: pl.DataFrame, rows: pl.DataFrame, column: str) -> pl.DataFrame:
    bad = (
        texts[column].is_not_null()
        & rows[column].is_null()
        & (texts[column].str.to_lowercase() != "nan")
    )
    found = texts.filter(bad)
    return found.select(
        "patient", "file", "row", column=pl.lit(column), rule=pl.lit("number"), value=pl.col(column)
    )
