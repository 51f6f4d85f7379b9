"""Parquet files that grow by a block of rows at a time."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq


class ParquetFiles:
    """Open files by name, in a folder; each block of rows becomes a row group."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, pq.ParquetWriter] = {}

    def add(self, name: str, rows: pl.DataFrame) -> None:
        """Append rows to the file ``name.parquet``; all its rows have the columns of the first."""
        data = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        if name not in self._writers:
            path = self.folder / f"{name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writers[name] = pq.ParquetWriter(path, data.schema, compression="zstd")
        self._writers[name].write_table(data.cast(self._writers[name].schema))

    def close(self) -> None:
        """Close all files; more rows begin new ones."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
