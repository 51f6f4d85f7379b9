"""Parquet files that were written by others and may be damaged.

A single wrong byte can crash the process inside polars' reader. So such a file is read with Arrow's
reader, or checked with it before polars reads it.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from flowsheet.cohort.record_files import READ_ERRORS, report_unreadable

__all__ = ["READ_ERRORS", "read_verified", "report_unreadable", "verify_parquet"]


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
