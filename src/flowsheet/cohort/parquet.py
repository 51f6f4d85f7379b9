"""Parquet files that others wrote, and that may be damaged.

A single wrong byte can end the process inside polars' reader, so Arrow's reads such a file, or
reads it over, first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from flowsheet.errors import CheckFailed, first_line

READ_ERRORS = (
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError),
    *(
        ValueError,
        TypeError,
        LookupError,
        MemoryError,
        NotImplementedError,
    ),  # Arrow's own errors are kinds of these
)
"""What readers raise of damaged bytes."""


def read_verified(file: Path) -> pl.DataFrame:
    """A whole file, which may be damaged; raises one of ``READ_ERRORS`` where it is."""
    import pyarrow.parquet as pq

    with file.open("rb") as stream:
        table = pq.ParquetFile(stream).read()
    table.validate(full=True)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def verify_parquet(file: Path) -> pl.Schema:
    """The columns of a file all of which can be read; raises one of ``READ_ERRORS`` where it is damaged."""
    import pyarrow.parquet as pq

    with file.open("rb") as stream:
        parts = pq.ParquetFile(stream)
        for i in range(parts.num_row_groups):
            parts.read_row_group(i).validate(full=True)
    return pl.Schema(pl.read_parquet_schema(file))


@contextmanager
def report_unreadable(path: Path, what: str = "the file", todo: str = "") -> Iterator[None]:
    """Say of damaged files in words that they cannot be read.

    Raises:
        CheckFailed: instead of ``READ_ERRORS``.
    """
    try:
        yield
    except READ_ERRORS as error:
        raise CheckFailed(
            f"{what} cannot be read: {first_line(error)}", where=str(path), todo=todo
        ) from error
