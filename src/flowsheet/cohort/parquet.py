"""Parquet files that were written by others and may be damaged.

A single wrong byte can crash the process inside polars' reader. So such a file is read with Arrow's
reader, or checked with it before polars reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from flowsheet.errors import CheckFailed, first_line

READ_ERRORS = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    OSError,
    # Arrow's own errors are subclasses of these.
    ValueError,
    TypeError,
    LookupError,
    MemoryError,
    NotImplementedError,
)
"""What readers raise when a file is damaged."""


def read_verified(file: Path) -> pl.DataFrame:
    """Read a whole file with Arrow; raises one of ``READ_ERRORS`` if it is damaged."""
    import pyarrow.parquet as pq

    with file.open("rb") as stream:
        table = pq.ParquetFile(stream).read()
    table.validate(full=True)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def verify_parquet(file: Path) -> pl.Schema:
    """Check that all of a file can be read; raises one of ``READ_ERRORS`` if it is damaged.

    Returns:
        The file's columns and their types.
    """
    import pyarrow.parquet as pq

    with file.open("rb") as stream:
        parts = pq.ParquetFile(stream)
        for i in range(parts.num_row_groups):
            parts.read_row_group(i).validate(full=True)
    return pl.Schema(pl.read_parquet_schema(file))


@contextmanager
def report_unreadable(path: Path, what: str = "the file", todo: str = "") -> Iterator[None]:
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
        raise CheckFailed(
            f"{what} cannot be read: {first_line(error)}", where=str(path), todo=todo
        ) from error
