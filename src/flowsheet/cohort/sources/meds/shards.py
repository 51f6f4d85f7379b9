"""The shards of a MEDS data set: their codes, and the rows of some codes and subjects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from flowsheet.cohort.parquet import TypedFile, report_unreadable, verify_parquet
from flowsheet.cohort.record_files import find_unread_files, walk_files
from flowsheet.cohort.schema import TIME
from flowsheet.errors import CheckFailed

TYPES: dict[str, pl.DataType] = {
    "subject_id": pl.Int64(),
    "time": TIME,
    "code": pl.String(),
    "numeric_value": pl.Float64(),
}
"""Columns of the standard, and what they become without loss."""

STAY = "icustay_id"
ORDER = "order_id"
ENTRY = "poe_id"
"""Takes the place of ``ORDER`` in the rows of orders of drugs."""
UNIT = "unit"
ROUTE = "route"
"""Optional columns that the MIMIC-IV ETL adds to those of the standard."""
TEXT = "text_value"
DATABASE = "dataset"
"""Optional column of OpenICU: the database of a row."""

ROW_UNIT = "row_unit"
"""The unit of the row itself; ``unit`` is that of the mapping."""

ROWS: dict[str, pl.DataType] = {
    "subject_id": pl.Int64(),
    "time": TIME,
    "known_at": TIME,
    "code": pl.String(),
    "value": pl.Float64(),
    "text": pl.String(),
    STAY: pl.Int64(),
    ORDER: pl.String(),
    ROW_UNIT: pl.String(),
    ROUTE: pl.String(),
}

_SUFFIXES = (".parquet",)
_ZONE_ADVICE = "; a time zone is declared with cohort.options.time_zone"
_NAME_AND_FIX = ("the shard", "write the data set again")


@dataclass(frozen=True)
class Shards:
    """The event files of a data set, ``data/**/*.parquet``, in the order of their names."""

    root: Path
    files: tuple[TypedFile, ...]
    known_at: str | None
    """A column of the shards with the time at which a row was stored."""
    database: str | None = None
    """The database whose rows are read; None: the only one."""

    @classmethod
    def open(
        cls,
        root: Path,
        known_at: str | None,
        time_zone: str | None = None,
        database: str | None = None,
    ) -> Shards:
        """Find the shards and check their columns.

        Args:
            root: the folder of the data set.
            known_at: a column with the time at which a row was stored.
            time_zone: the zone to whose local time zoned times are converted; None: they are
                refused.
            database: the one to read, where a column ``dataset`` names several.

        Raises:
            CheckFailed: there are none, or one is unreadable, lacks a column or has one of another
            type; or the rows are of several databases, whose subjects may have the same ids.
        """
        paths = walk_files(root / "data", _SUFFIXES)
        if not paths:
            raise CheckFailed(
                "the folder is not a MEDS data set: it has no data/**/*.parquet",
                where=str(root),
                todo="specify the folder that contains data/ and metadata/",
            )
        files = tuple(_open_shard(path, known_at, time_zone) for path in paths)
        _check_database(root, files, database)
        return cls(root, files, known_at, database)

    def find_unread(self) -> list[str]:
        """Files in ``data`` that are no shards, in relation to the root."""
        unread = find_unread_files(self.root / "data", _SUFFIXES)
        return [file.relative_to(self.root).as_posix() for file in unread]

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
            scan = self._scan(file)
            nulls = _collect(file, scan.select(pl.col("subject_id", "code").null_count()))
            for column, n in nulls.row(0, named=True).items():
                if n:
                    raise CheckFailed(
                        f"{n:,} rows have no {column}",
                        where=f"{file.path}, column {column!r}",
                        todo="MEDS forbids it: fix the data set",
                    )
            per_code = _collect(file, scan.group_by("code").agg(rows=pl.len()))
            counts.append(per_code.select(pl.lit(position).alias("file"), "code", "rows"))
        return pl.concat(counts).cast({"rows": pl.Int64}).sort("file", "code")

    def count_shards_of_subjects(self) -> pl.DataFrame:
        """(subject_id, shards): in how many shards each has rows; the standard wants one."""
        subjects = [
            _collect(file, self._scan(file).select("subject_id").unique()) for file in self.files
        ]
        counts = pl.concat(subjects).group_by("subject_id").agg(shards=pl.len())
        return counts.sort("subject_id")

    def find_hours(self, codes: pl.Series) -> pl.DataFrame:
        """(subject_id, first, last): the rows with these codes within each hour."""
        hour = pl.col("time").dt.truncate("1h")
        is_dated = pl.col("time").is_not_null()
        parts = [
            _collect(
                file,
                self._scan(file)
                .filter(pl.col("code").is_in(codes.implode()), is_dated)
                .group_by("subject_id", hour=hour)
                .agg(first=pl.col("time").min(), last=pl.col("time").max()),
            )
            for file in self.files
        ]
        hours = pl.concat(parts).group_by("subject_id", "hour")
        merged = hours.agg(pl.col("first").min(), pl.col("last").max())
        return merged.select("subject_id", "first", "last").sort("subject_id", "first")

    def _scan(self, file: TypedFile) -> pl.LazyFrame:
        """The rows of a shard, of the chosen database."""
        if self.database is None or DATABASE not in file.schema:
            return file.scan()
        return file.scan().filter(pl.col(DATABASE) == self.database)

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
        scan = self._scan(file).filter(pl.col("code").is_in(codes.implode()))
        if subjects:
            scan = scan.filter(pl.col("subject_id").is_between(*subjects))

        def optional(column: str) -> pl.Expr:
            return pl.col(column) if column in file.schema else pl.lit(None)

        value = optional("numeric_value")
        if file.schema.get("numeric_value") == pl.Float32:
            # the decimal number whose nearest float32 is stored
            value = value.round_sig_figs(7)
        columns = {
            "subject_id": pl.col("subject_id"),
            "time": pl.col("time"),
            "known_at": pl.col(self.known_at) if self.known_at else pl.lit(None),
            "code": pl.col("code"),
            "value": value,
            "text": optional(TEXT),
            STAY: optional(STAY),
            ORDER: pl.coalesce(optional(name).cast(pl.String) for name in (ORDER, ENTRY)),
            ROW_UNIT: optional(UNIT),
            ROUTE: optional(ROUTE),
        }
        return _collect(file, scan.select(**columns).cast(pl.Schema(ROWS)))


def _collect(file: TypedFile, frame: pl.LazyFrame) -> pl.DataFrame:
    with report_unreadable(file.path, *_NAME_AND_FIX):
        return frame.collect(engine="streaming")


def _open_shard(path: Path, known_at: str | None, time_zone: str | None) -> TypedFile:
    with report_unreadable(path, *_NAME_AND_FIX):
        schema = verify_parquet(path)
    types = dict(TYPES)
    if known_at:
        types[known_at] = TIME
    for column in types:
        if column not in schema and column != "numeric_value":  # optional in the standard
            todo = "see https://github.com/Medical-Event-Data-Standard/meds for the schema"
            raise CheckFailed(f"there is no column {column!r}", where=str(path), todo=todo)
    # ids that pandas has written as floats, as there were gaps
    types |= {STAY: pl.Int64()} | dict.fromkeys((UNIT, ROUTE, TEXT, DATABASE), pl.String())
    for column in (ORDER, ENTRY):
        has_numbers = column in schema and schema[column].is_numeric()
        types[column] = pl.Int64() if has_numbers else pl.String()
    shard = TypedFile(path, schema, types, time_zone)
    shard.check("the shard", f"write it with that type{_ZONE_ADVICE}")
    return shard


def _check_database(root: Path, files: tuple[TypedFile, ...], database: str | None) -> None:
    """Refuse rows of several databases without a choice, and a choice of which there are none."""
    named = [file for file in files if DATABASE in file.schema]
    names = [_collect(file, file.scan().select(DATABASE).unique()) for file in named]
    present = sorted(pl.concat(names)[DATABASE].drop_nulls().unique()) if names else []
    options = " or ".join(f"cohort.options.database={name}" for name in present)
    if database is not None and database not in present:
        what = f"there is no row of the database {database!r}"
        todo = options or "leave cohort.options.database out: no column dataset names any"
        raise CheckFailed(what, where=str(root), todo=todo)
    if database is None and len(present) > 1:
        what = f"the data set has rows of several databases: {', '.join(present)}"
        raise CheckFailed(what, where=str(root), todo=f"choose one: {options}")
