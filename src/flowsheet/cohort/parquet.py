"""Parquet files that were written by others and may be damaged.

A single wrong byte can crash the process inside polars' reader. So such a file is read with Arrow's
reader, or checked with it before polars reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from flowsheet.cohort.lossless import (
    ColumnProblem,
    cast_column,
    cast_lossless,
    find_type_problem,
    is_always_lossless,
)
from flowsheet.cohort.record_files import READ_ERRORS, report_unreadable
from flowsheet.errors import CheckFailed

__all__ = ["READ_ERRORS", "TypedFile", "read_verified", "report_unreadable", "verify_parquet"]


@dataclass(frozen=True)
class TypedFile:
    """A Parquet file of which some columns become other types without loss.

    All types are checked before anything is read; of values that could be lost, too.
    """

    path: Path
    schema: pl.Schema
    """The file's own columns and types."""
    types: Mapping[str, pl.DataType]
    """The types of its known columns; the file may lack some of them."""
    time_zone: str | None = None
    """The zone to whose local time zoned times are converted."""

    def check(self, table: str, todo: str) -> None:
        """Check the known columns.

        Raises:
            CheckFailed: a column cannot become its type without loss.
        """
        for column, target in self.types.items():
            problem = self._find_problem(column, target) if column in self.schema else ""
            if problem:
                raise CheckFailed(
                    str(ColumnProblem(table, column, "column_type", problem)),
                    where=str(self.path),
                    todo=todo,
                )

    def scan(self) -> pl.LazyFrame:
        """The file's columns, the known ones in their types."""
        frame = pl.scan_parquet(self.path, glob=False, hive_partitioning=False)
        return frame.with_columns(
            cast_column(pl.col(column), self.schema[column], target, self.time_zone)
            for column, target in self.types.items()
            if column in self.schema
        )

    def _find_problem(self, column: str, target: pl.DataType) -> str:
        source = self.schema[column]
        problem = find_type_problem(source, target, self.time_zone)
        if problem or is_always_lossless(source, target):
            return problem
        with report_unreadable(self.path):
            return cast_lossless(read_verified(self.path, column)[column], target, self.time_zone)[
                1
            ]


def read_verified(file: Path, *columns: str) -> pl.DataFrame:
    """Read columns of a file (default: all) with Arrow.

    It raises one of ``READ_ERRORS`` if the file is damaged.
    """
    import pyarrow.parquet as pq

    with file.open("rb") as stream:
        table = pq.ParquetFile(stream).read(columns=list(columns) or None)
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
