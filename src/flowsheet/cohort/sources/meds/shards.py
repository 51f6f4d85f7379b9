"""The shards of a MEDS data set: what is there, and the rows of some subjects out of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from flowsheet.cohort.parquet import report_unreadable, verify_parquet
from flowsheet.errors import CheckFailed

TYPES: dict[str, tuple[type[pl.DataType], ...]] = {
    "subject_id": (pl.Int64, pl.Int32, pl.UInt32, pl.UInt64),
    "time": (pl.Datetime,),
    "code": (pl.String, pl.Categorical),
    "numeric_value": (pl.Float32, pl.Float64),
}
STAY, ORDER, UNIT = "icustay_id", "order_id", "unit"
"""Columns beyond the standard's own that the MIMIC-IV ETL writes, used where a shard has them."""
ROW_UNIT = "row_unit"
"""The unit that a row tells itself; ``unit`` is the mapping's."""

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

_SHARD = ("the shard", "make the data set again")


@dataclass(frozen=True)
class Shards:
    """The event files of a data set, ``data/**/*.parquet``, in the order of their names."""

    root: Path
    files: tuple[Path, ...]
    known_at: str | None
    """A column of the shards that tells when a row was stored."""

    @classmethod
    def open(cls, root: Path, known_at: str | None) -> Shards:
        """Find the shards and look at their columns.

        Raises:
            CheckFailed: there are none, or one is unreadable, lacks a column or has one of another
            type.
        """
        files = tuple(sorted((root / "data").glob("**/*.parquet")))
        if not files:
            raise CheckFailed(
                "the folder is no MEDS data set: it has no data/**/*.parquet",
                where=str(root),
                todo="name the folder that holds data/ and metadata/",
            )
        for file in files:
            _check(file, known_at)
        return cls(root, files, known_at)

    def metadata(self) -> dict[str, Any]:
        """What ``metadata/dataset.json`` tells; empty where there is none.

        Raises:
            CheckFailed: the file is not JSON.
        """
        file = self.root / "metadata" / "dataset.json"
        try:
            told = json.loads(file.read_text()) if file.is_file() else {}
        except (ValueError, OSError) as error:
            raise CheckFailed(
                f"the file is not JSON: {error}", where=str(file), todo="mend or remove it"
            ) from error
        return told if isinstance(told, dict) else {}

    def codes(self) -> pl.DataFrame:
        """(file, code, rows): how often each shard has each code. ``file`` is a position in
        ``files``.

        Raises:
            CheckFailed: a shard cannot be read, or holds rows without a code or a subject.
        """
        counted = []
        for position, file in enumerate(self.files):
            scan = _scan(file)
            empty = _collect(file, scan.select(pl.col("subject_id", "code").null_count())).row(
                0, named=True
            )
            for column, n in empty.items():
                if n:
                    where = f"{file}, column {column!r}"
                    raise CheckFailed(
                        f"{n:,} rows have none",
                        where=where,
                        todo="MEDS forbids it: mend the data set",
                    )
            per_code = _collect(
                file, scan.group_by(pl.col("code").cast(pl.String)).agg(rows=pl.len())
            )
            counted.append(per_code.select(pl.lit(position).alias("file"), "code", "rows"))
        return pl.concat(counted).sort("file", "code")

    def read(
        self, position: int, codes: pl.Series, subjects: tuple[int, int] | None = None
    ) -> pl.DataFrame:
        """The rows of a shard with these codes, of all subjects or those from one id to another;
        see ``ROWS``.

        Raises:
            CheckFailed: the shard cannot be read.
        """
        file = self.files[position]
        scan = _scan(file).filter(pl.col("code").cast(pl.String).is_in(codes.implode()))
        if subjects:
            scan = scan.filter(pl.col("subject_id").is_between(*subjects))
        schema = pl.read_parquet_schema(file)

        def column(name: str) -> pl.Expr:
            return pl.col(name) if name in schema else pl.lit(None)

        value = column("numeric_value").cast(pl.Float64)
        if schema.get("numeric_value") == pl.Float32:
            value = value.round_sig_figs(7)  # the decimal that was stored as its nearest float32
        columns = {
            "subject_id": pl.col("subject_id"),
            "time": pl.col("time"),
            "known_at": pl.col(self.known_at or "time"),
            "code": pl.col("code"),
            "value": value,
            STAY: column(STAY),
            ORDER: column(ORDER),
            ROW_UNIT: column(UNIT),
        }
        return _collect(file, scan.select(**columns).cast(pl.Schema(ROWS)))


def _scan(file: Path) -> pl.LazyFrame:
    return pl.scan_parquet(file, glob=False, hive_partitioning=False)


def _collect(file: Path, frame: pl.LazyFrame) -> pl.DataFrame:
    with report_unreadable(file, *_SHARD):
        return frame.collect(engine="streaming")


def _check(file: Path, known_at: str | None) -> None:
    with report_unreadable(file, *_SHARD):
        schema = verify_parquet(file)
    wanted = TYPES | ({known_at: (pl.Datetime,)} if known_at else {})
    for column, kinds in wanted.items():
        if column not in schema:
            if (
                column == "numeric_value"
            ):  # the standard allows it to be absent: nothing has a number
                continue
            todo = "see https://github.com/Medical-Event-Data-Standard/meds for the schema"
            raise CheckFailed(f"there is no column {column!r}", where=str(file), todo=todo)
        zone = getattr(schema[column], "time_zone", None)
        if not isinstance(schema[column], kinds) or zone:
            what = f"the column {column!r} holds {schema[column]}, not {' or '.join(kind.__name__ for kind in kinds)}"
            raise CheckFailed(what, where=str(file), todo="write it with that type")
