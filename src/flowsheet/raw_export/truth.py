"""What was written, beside the tables: true values, and counts of data errors."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq


class TruthWriter:
    """Parquet files of true values that grow with the tables, and counts of data errors."""

    def __init__(self, folder: Path, write_values: bool) -> None:
        self.error_counts: dict[str, Counter[str]] = {}
        """Rows by data error, by table."""
        self._folder = folder
        self._write_values = write_values
        self._writers: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> TruthWriter:
        self._folder.mkdir()
        return self

    def __exit__(self, *exc: object) -> None:
        for writer in self._writers.values():
            writer.close()

    def count_errors(self, table: str, counts: dict[str, int]) -> None:
        """Add to the counts of a table."""
        self.error_counts.setdefault(table, Counter()).update(counts)

    def add(self, name: str, rows: pl.DataFrame) -> None:
        """Append rows to a file."""
        if not self._write_values or rows.is_empty():
            return
        data = rows.to_arrow()
        if name not in self._writers:
            file = self._folder / f"{name}.parquet"
            self._writers[name] = pq.ParquetWriter(file, data.schema, compression="zstd")
        self._writers[name].write_table(data.cast(self._writers[name].schema))
