"""The shards of a MEDS data set: their codes, and the rows of some codes and subjects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from flowsheet.cohort.parquet import report_unreadable, verify_parquet
from flowsheet.cohort.record_files import walk_files
from flowsheet.errors import CheckFailed

TYPES: dict[str, tuple[type[pl.DataType], ...]] = {
    "subject_id": (pl.Int64, pl.Int32, pl.UInt32, pl.UInt64),
    "time": (pl.Datetime,),
    "code": (pl.String, pl.Categorical, pl.Enum),
    "numeric_value": (pl.Float32, pl.Float64, pl.Null),
}
"""Columns of the standard, with the types that are accepted."""

STAY = "icustay_id"
ORDER = "order_id"
UNIT = "unit"
"""Optional columns that the MIMIC-IV ETL adds to those of the standard."""

ROW_UNIT = "row_unit"
"""The unit of the row itself; ``unit`` is that of the mapping."""

ROWS: dict[str, pl.DataType] = {
    "subject_id": pl.Int64(),
    "time": pl.Datetime("us"),
    "known_at": pl.Datetime("us"),
    "code": pl.String(),
    "value": pl.Float64(),
    STAY: pl.Int64(),
    ORDER: pl.String(),
    ROW_UNIT: pl.String(),
}

_NAME_AND_FIX = ("the shard", "write the data set again")


@dataclass(frozen=True)
class Shards:
    """The event files of a data set, ``data/**/*.parquet``, in the order of their names."""

    root: Path
    files: tuple[Path, ...]
    known_at: str | None
    """A column of the shards with the time at which a row was stored."""

    @classmethod
    def open(cls, root: Path, known_at: str | None) -> Shards:
        """Find the shards and check their columns.

        Raises:
            CheckFailed: there are none, or one is unreadable, lacks a column or has one of another
            type.
        """
        files = tuple(walk_files(root / "data", (".parquet",)))
        if not files:
            raise CheckFailed(
                "the folder is not a MEDS data set: it has no data/**/*.parquet",
                where=str(root),
                todo="specify the folder that contains data/ and metadata/",
            )
        for file in files:
            _check_columns(file, known_at)
        return cls(root, files, known_at)

    def read_metadata(self) -> dict[str, Any]:
        """The content of ``metadata/dataset.json``; empty without that file.

        Raises:
            CheckFailed: the file is not JSON.
        """
        file = self.root / "metadata" / "dataset.json"
        try:
            metadata = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except (ValueError, OSError) as error:
            raise CheckFailed(
                f"the file is not JSON: {error}", where=str(file), todo="fix or remove it"
            ) from error
        return metadata if isinstance(metadata, dict) else {}

    def count_codes(self) -> pl.DataFrame:
        """(file, code, rows) of each code in each shard; ``file`` is a position in ``files``.

        Raises:
            CheckFailed: a shard cannot be read, or has rows without a code or a subject.
        """
        counts = []
        for position, file in enumerate(self.files):
            scan = _scan(file)
            nulls = _collect(file, scan.select(pl.col("subject_id", "code").null_count()))
            for column, n in nulls.row(0, named=True).items():
                if n:
                    raise CheckFailed(
                        f"{n:,} rows have no {column}",
                        where=f"{file}, column {column!r}",
                        todo="MEDS forbids it: fix the data set",
                    )
            code = pl.col("code").cast(pl.String)
            per_code = _collect(file, scan.group_by(code).agg(rows=pl.len()))
            counts.append(per_code.select(pl.lit(position).alias("file"), "code", "rows"))
        return pl.concat(counts).sort("file", "code")

    def read(
        self, position: int, codes: pl.Series, subjects: tuple[int, int] | None = None
    ) -> pl.DataFrame:
        """The rows of a shard with these codes, in the columns of ``ROWS``.

        Args:
            position: Position of the shard in ``files``.
            codes: The codes to read.
            subjects: First and last subject to read; None: all.

        Raises:
            CheckFailed: the shard cannot be read.
        """
        file = self.files[position]
        scan = _scan(file).filter(pl.col("code").cast(pl.String).is_in(codes.implode()))
        if subjects:
            scan = scan.filter(pl.col("subject_id").is_between(*subjects))
        schema = pl.read_parquet_schema(file)

        def optional(column: str) -> pl.Expr:
            return pl.col(column) if column in schema else pl.lit(None)

        value = optional("numeric_value").cast(pl.Float64)
        if schema.get("numeric_value") == pl.Float32:
            # the decimal number whose nearest float32 is stored
            value = value.round_sig_figs(7)
        columns = {
            "subject_id": pl.col("subject_id"),
            "time": pl.col("time"),
            "known_at": pl.col(self.known_at) if self.known_at else pl.lit(None),
            "code": pl.col("code"),
            "value": value,
            STAY: optional(STAY),
            ORDER: optional(ORDER),
            ROW_UNIT: optional(UNIT),
        }
        return _collect(file, scan.select(**columns).cast(pl.Schema(ROWS)))


def _scan(file: Path) -> pl.LazyFrame:
    return pl.scan_parquet(file, glob=False, hive_partitioning=False)


def _collect(file: Path, frame: pl.LazyFrame) -> pl.DataFrame:
    with report_unreadable(file, *_NAME_AND_FIX):
        return frame.collect(engine="streaming")


def _check_columns(file: Path, known_at: str | None) -> None:
    with report_unreadable(file, *_NAME_AND_FIX):
        schema = verify_parquet(file)
    types = TYPES | ({known_at: (pl.Datetime,)} if known_at else {})
    for column, accepted in types.items():
        if column not in schema:
            if column == "numeric_value":
                continue  # optional in the standard: no row has a number
            todo = "see https://github.com/Medical-Event-Data-Standard/meds for the schema"
            raise CheckFailed(f"there is no column {column!r}", where=str(file), todo=todo)
        has_time_zone = bool(getattr(schema[column], "time_zone", None))
        if not isinstance(schema[column], accepted) or has_time_zone:
            names = " or ".join(dtype.__name__ for dtype in accepted)
            raise CheckFailed(
                f"the column {column!r} contains {schema[column]}, not {names}",
                where=str(file),
                todo="write it with that type",
            )
