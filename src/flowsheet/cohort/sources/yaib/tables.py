"""YAIB's three files: opened, read some stays at a time, and what becomes of broken ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from flowsheet.cohort.parquet import report_unreadable, verify_parquet
from flowsheet.cohort.sources.base import DEFECTS
from flowsheet.errors import CheckFailed

FILES = ("sta", "dyn", "outc")
REQUIRED: dict[str, tuple[str, ...]] = {
    "sta": ("stay_id", "age", "sex", "height", "weight"),
    "dyn": ("stay_id", "time"),
    "outc": ("stay_id", "time", "label"),
}
_REMAKE = "make the cohort's files again"
MOST_HOURS = 100_000
"""Eleven years: beyond, an hour is a slip of the pen."""

SPOILT: dict[str, pl.DataType] = {"stay_id": pl.Int64(), **DEFECTS}
"""One line for each way in which a stay is broken."""


@dataclass(frozen=True)
class Cohort:
    """The three files of a YAIB cohort, their columns and types looked at and nothing else read yet."""

    folder: Path
    schemas: dict[str, pl.Schema]

    @classmethod
    def open(cls, folder: Path, measured: set[str]) -> Cohort:
        """Open the folder; ``measured`` are the columns of ``dyn`` that must hold numbers.

        Raises:
            CheckFailed: a file or a column is missing, is unreadable, or has a type that cannot
            mean what it should.
        """
        schemas = {name: _schema(folder / f"{name}.parquet") for name in FILES}
        for name, schema in schemas.items():
            _check(
                folder / f"{name}.parquet",
                schema,
                REQUIRED[name],
                measured if name == "dyn" else set(),
            )
        return cls(folder, schemas)

    def file(self, name: str) -> Path:
        """Where a file is."""
        return self.folder / f"{name}.parquet"

    def scan(self, name: str) -> pl.LazyFrame:
        """A file with ``stay_id`` as Int64 and, where it has times, ``hour`` (Float64) beside ``time``."""
        frame = pl.scan_parquet(self.file(name), glob=False, hive_partitioning=False)
        frame = frame.with_columns(pl.col("stay_id").cast(pl.Int64))
        if "time" not in REQUIRED[name]:
            return frame
        span = isinstance(self.schemas[name]["time"], pl.Duration)
        hour = (
            pl.col("time").cast(pl.Duration("us")).dt.total_microseconds() / 3.6e9
            if span
            else pl.col("time")
        )
        return frame.with_columns(hour=hour.cast(pl.Float64))

    def read(
        self, name: str, *columns: str, low: int | None = None, high: int | None = None
    ) -> pl.DataFrame:
        """Some columns of the stays from ``low`` to ``high``, in order of stay and hour.

        Raises:
            CheckFailed: the file cannot be read.
        """
        frame = self.scan(name)
        if low is not None and high is not None:
            frame = frame.filter(pl.col("stay_id").is_between(low, high))
        keys = ["stay_id", "hour"] if "hour" in columns else ["stay_id"]
        with report_unreadable(self.file(name), todo=_REMAKE):
            return frame.select("stay_id", *columns).collect().sort(keys, maintain_order=True)

    def stays(self) -> pl.Series:
        """Every stay that any of the files tells of, ascending.

        Raises:
            CheckFailed: a row names no stay.
        """
        ids = {name: self.read(name)["stay_id"] for name in FILES}
        for name, found in ids.items():
            if found.null_count():
                what = f"{found.null_count():,} rows name no stay"
                raise CheckFailed(
                    what,
                    where=f"{self.file(name)}, column 'stay_id'",
                    todo="remove or mend those rows",
                )
        return pl.concat([found.unique() for found in ids.values()]).unique().sort()


def _schema(file: Path) -> pl.Schema:
    if not file.is_file():
        raise CheckFailed(
            "the folder is no YAIB cohort: a file is missing",
            where=str(file),
            todo="name a folder that holds sta.parquet, dyn.parquet and outc.parquet",
        )
    with report_unreadable(file, todo=_REMAKE):
        return verify_parquet(file)


def _check(file: Path, schema: pl.Schema, required: tuple[str, ...], measured: set[str]) -> None:
    for column in required:
        if column not in schema:
            hourly = (
                " (one label a stay is no episode: take an hourly task)" if column == "time" else ""
            )
            raise CheckFailed(
                f"there is no column {column!r}{hourly}",
                where=str(file),
                todo=f"the columns must hold {', '.join(required)}; leave cells empty where nothing is known",
            )
    for column, kind in schema.items():
        wanted = _wanted(column, kind, measured)
        if wanted:
            raise CheckFailed(
                f"the column {column!r} holds {kind}, not {wanted}",
                where=str(file),
                todo="write it with that type",
            )


def _wanted(column: str, kind: pl.DataType, measured: set[str]) -> str | None:
    """What a column should hold, where it holds something else."""
    if column == "stay_id" and not kind.is_integer():
        return "whole numbers"
    if column == "time" and not (isinstance(kind, pl.Duration) or kind.is_numeric()):
        return "durations or hours since admission"
    if column == "label" and not (kind == pl.Boolean or kind.is_numeric()):
        return "true and false, or 0 and 1"
    if column == "sex" and kind not in (pl.String, pl.Categorical, pl.Null):
        return "text"
    if (column in measured or column in ("age", "height", "weight")) and not (
        kind.is_numeric() or kind == pl.Null
    ):
        return "numbers"
    return None


def broken(sta: pl.DataFrame, dyn: pl.DataFrame, outc: pl.DataFrame) -> pl.DataFrame:
    """The stays that cannot be read, one line each with the plainest reason; columns as in
    ``SPOILT``.

    ``dyn`` and ``outc`` are in order of stay and hour; ``label`` is a number.
    """
    lines = [
        *_absent(sta, dyn, outc),
        _line(
            sta.filter(~pl.col("stay_id").is_first_distinct()),
            "sta",
            "stay_id",
            "duplicate_stay",
            "stay_id",
        ),
        *_hours(dyn, "dyn"),
        *_hours(outc, "outc"),
        *_labels(outc),
        _other_hours(dyn, outc),
    ]
    return pl.concat(lines).unique("stay_id", keep="first", maintain_order=True).sort("stay_id")


def _absent(*frames: pl.DataFrame) -> list[pl.DataFrame]:
    """Stays that another file tells of."""
    every = (
        pl.concat([frame.select("stay_id").unique() for frame in frames]).unique().sort("stay_id")
    )
    lacking = [
        every.join(frame, on="stay_id", how="anti", maintain_order="left") for frame in frames
    ]
    return [
        _line(rows, name, "stay_id", "in_every_file", "stay_id")
        for name, rows in zip(FILES, lacking, strict=True)
    ]


def _hours(frame: pl.DataFrame, file: str) -> list[pl.DataFrame]:
    hour, again = pl.col("hour"), pl.col("stay_id") == pl.col("stay_id").shift(1)
    step = hour - hour.shift(1)
    whole = hour.is_finite() & hour.is_between(0, MOST_HOURS) & (hour == hour.floor())
    rules = {
        "hour_number": ~whole.fill_null(value=False),
        "duplicate_hour": again & (step == 0),
        "missing_hour": again & (step > 1),
    }
    return [_line(frame.filter(bad), file, "time", rule, "hour") for rule, bad in rules.items()]


def _labels(outc: pl.DataFrame) -> list[pl.DataFrame]:
    label, again = pl.col("label"), pl.col("stay_id") == pl.col("stay_id").shift(1)
    rules = {
        "label": ~label.is_in([0.0, 1.0]).fill_null(value=False),
        "label_returns": again & (label < label.shift(1)),
    }
    return [_line(outc.filter(bad), "outc", "label", rule, "label") for rule, bad in rules.items()]


def _other_hours(dyn: pl.DataFrame, outc: pl.DataFrame) -> pl.DataFrame:
    """Stays whose hours in ``dyn`` are not those in ``outc``."""
    grids = [
        f.group_by("stay_id").agg(hour=pl.col("hour").min(), last=pl.col("hour").max())
        for f in (dyn, outc)
    ]
    both = grids[0].join(grids[1], on="stay_id", suffix="_label").sort("stay_id")
    other = (pl.col("hour") != pl.col("hour_label")) | (pl.col("last") != pl.col("last_label"))
    told = pl.format("{} to {}, labels {} to {}", "hour", "last", "hour_label", "last_label")
    return _line(
        both.filter(other.fill_null(value=False)).with_columns(told=told),
        "dyn",
        "time",
        "same_hours",
        "told",
    )


def _line(rows: pl.DataFrame, file: str, column: str, rule: str, value: str) -> pl.DataFrame:
    at = [pl.format(", hour {}", "hour").fill_null("")] if "hour" in rows.columns else []
    return rows.select(
        pl.col("stay_id").cast(pl.Int64),
        table=pl.lit("stays"),
        key=pl.concat_str([pl.format(f"{file}.parquet stay {{}}", "stay_id"), *at]),
        column=pl.lit(column),
        rule=pl.lit(rule),
        value=pl.col(value).cast(pl.String).fill_null("nothing"),
    )
