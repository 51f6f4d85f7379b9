"""Files of raw records that were written by others: how they are found, and what reading raises.

All sources find their files here, so that they agree: hidden files and the droppings of other
programs are ignored, symbolic links are followed, and a table may be divided into several files.
"""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import polars as pl
import pyarrow as pa
from isal.igzip_lib import IsalError

from flowsheet.errors import CheckFailed, first_line

DECOMPRESSION_ERRORS: tuple[type[Exception], ...] = (
    OSError,  # also gzip.BadGzipFile
    EOFError,
    zlib.error,
    cast(type[Exception], IsalError),
    zipfile.BadZipFile,
    struct.error,
    # zipfile raises these for encrypted members and unknown methods.
    RuntimeError,
    NotImplementedError,
)
"""What the libraries that decompress raise when a file is damaged."""

READ_ERRORS: tuple[type[Exception], ...] = (
    *DECOMPRESSION_ERRORS,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    pa.ArrowException,
    # Arrow's own errors are subclasses of these.
    ValueError,  # also UnicodeError
    TypeError,
    LookupError,
    MemoryError,
)
"""What any reader raises when a file is damaged."""


@contextmanager
def report_unreadable(
    path: Path, what: str = "the file", todo: str = "copy it again and compare its checksum"
) -> Iterator[None]:
    """Turn the errors of reading a damaged file into an error for the user.

    Args:
        path: The file, for the message.
        what: How the message names the file.
        todo: What the user can do.

    Raises:
        CheckFailed: in place of any of ``READ_ERRORS``.
    """
    try:
        yield
    except READ_ERRORS as error:
        reason = first_line(error)
        is_cut_off = isinstance(error, EOFError) or "end-of-stream" in reason or "EOF" in reason
        if is_cut_off:
            reason = f"it ends early (it is incomplete): {reason}"
        raise CheckFailed(f"{what} cannot be read: {reason}", where=str(path), todo=todo) from error


def is_hidden(name: str) -> bool:
    """Whether a path has a part that is hidden, or that another program has left behind.

    >>> is_hidden("train/._0.parquet"), is_hidden("__MACOSX/p1.psv"), is_hidden("train/0.parquet")
    (True, True, False)
    """
    parts = re.split(r"[/\\]", name)
    return any(part.startswith(".") or part in ("__MACOSX", "_temporary") for part in parts)


def walk_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files in a folder and its subfolders whose names end in a suffix, in either case.

    Symbolic links are followed, each folder once; hidden files and folders are left out.

    Args:
        folder: the folder to search.
        suffixes: endings of the names, in lower case.

    Returns:
        The paths, sorted.
    """
    found: list[Path] = []
    visited: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real_root = os.path.realpath(root)
        if real_root in visited:
            folders.clear()
            continue
        visited.add(real_root)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        paths = [Path(root) / name for name in names if name.lower().endswith(suffixes)]
        found += [path for path in paths if not is_hidden(path.name) and path.is_file()]
    return sorted(found)


def find_table_files(folder: Path, name: str, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of one table, in the order in which they are read; none if there is no such table.

    A table is a file ``NAME.csv``, a folder ``NAME`` or ``NAME.parquet`` with such files, or
    numbered files ``NAME_1.csv``, ``NAME_2.csv`` (also with ``-`` or ``.`` before the number).

    Args:
        folder: the folder with the tables.
        name: the table's name, in lower case.
        suffixes: the endings of files that are tables, in lower case.

    Raises:
        CheckFailed: there are several tables of that name, one of the numbered files is missing, or
            the only file of that name is of another kind.
    """
    if not folder.is_dir():
        todo = f"name the folder that contains {name}{' or '.join(suffixes)}"
        raise CheckFailed("this is not a folder", where=str(folder), todo=todo)
    alternatives: list[list[Path]] = []
    numbered: dict[str, dict[int, Path]] = {}
    part_name = re.compile(re.escape(name) + r"[_\-.](\d{1,6})")
    for path in sorted(folder.iterdir()):
        suffix = next((end for end in suffixes if path.name.lower().endswith(end)), "")
        stem = path.name.lower().removesuffix(suffix)
        part = part_name.fullmatch(stem)
        if is_hidden(path.name):
            continue
        if stem == name and path.is_dir():
            alternatives.append(walk_files(path, suffixes))
        elif stem == name and suffix:
            alternatives.append([path])
        elif part and suffix and path.is_file():
            numbered.setdefault(suffix, {})[int(part[1])] = path
    alternatives += [_sort_parts(files) for files in numbered.values()]
    found = [files for files in alternatives if files]
    if len(found) > 1:
        names = " and ".join(files[0].relative_to(folder).as_posix() for files in found)
        raise CheckFailed(
            f"two files have the table {name.upper()}: {names}",
            where=str(folder),
            todo="keep one of them",
        )
    if not found:
        _refuse_other_kinds(folder, name, suffixes)
    return found[0] if found else []


def _refuse_other_kinds(folder: Path, name: str, suffixes: tuple[str, ...]) -> None:
    names = sorted(path.name for path in folder.iterdir() if not is_hidden(path.name))
    others = [other for other in names if other.lower().split(".")[0] == name]
    if others:
        raise CheckFailed(
            f"the table {name.upper()} is a file of a kind that is not read: {others[0]}",
            where=str(folder / others[0]),
            todo=f"write it as {name}{' or '.join(suffixes)}",
        )


def find_unread_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files in a folder and its subfolders that have other endings and are not hidden.

    Files such as ``_SUCCESS``, which programs leave behind, do not count.
    """
    files = [file for file in walk_files(folder, ("",)) if not file.name.startswith("_")]
    return [file for file in files if not file.name.lower().endswith(suffixes)]


def _sort_parts(files: dict[int, Path]) -> list[Path]:
    numbers = sorted(files)
    missing = sorted(set(range(min(1, numbers[0]), numbers[-1])) - files.keys())
    if missing:
        first = files[numbers[0]]
        raise CheckFailed(
            f"part {missing[0]} of a table in numbered files is missing",
            where=str(first),
            todo=f"add it; the folder has the parts {', '.join(map(str, numbers))}",
        )
    return [files[number] for number in numbers]
