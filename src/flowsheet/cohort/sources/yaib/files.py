"""The three files of a YAIB cohort: opened, read for some stays at a time, and checked."""

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
MAX_HOURS = 100_000
"""Eleven years; a larger number of hours is a mistake."""

STAY_DEFECTS: dict[str, pl.DataType] = {"stay_id": pl.Int64(), **DEFECTS}
"""One row for each defect of a stay."""

_REMAKE = "write the files of the cohort again"


@dataclass(frozen=True)
class CohortFiles:
    """The three files of a YAIB cohort, with their columns and types validated."""

    folder: Path
    schemas: dict[str, pl.Schema]

    @classmethod
    def open(cls, folder: Path, numeric: set[str]) -> CohortFiles:
        """Open the folder; ``numeric`` are the columns of ``dyn`` that must contain numbers.

        Raises:
            CheckFailed: a file or a column is missing, is unreadable, or has a wrong type.
        """
        schemas = {name: _read_schema(folder / f"{name}.parquet") for name in FILES}
        for name, schema in schemas.items():
            numeric_columns = {"age", "height", "weight"} | (numeric if name == "dyn" else set())
            _check_schema(folder / f"{name}.parquet", schema, REQUIRED[name], numeric_columns)
        return cls(folder, schemas)

    def path(self, name: str) -> Path:
        """The path of a file."""
        return self.folder / f"{name}.parquet"

    def scan(self, name: str) -> pl.LazyFrame:
        """A file with ``stay_id`` as Int64 and, if it has times, ``hour`` as Float64."""
        frame = pl.scan_parquet(self.path(name), glob=False, hive_partitioning=False)
        frame = frame.with_columns(pl.col("stay_id").cast(pl.Int64))
        if "time" not in REQUIRED[name]:
            return frame
        hour = pl.col("time")
        if isinstance(self.schemas[name]["time"], pl.Duration):
            hour = hour.cast(pl.Duration("us")).dt.total_microseconds() / 3.6e9
        return frame.with_columns(hour=hour.cast(pl.Float64))

    def read(
        self, name: str, *columns: str, first: int | None = None, last: int | None = None
    ) -> pl.DataFrame:
        """Some columns of a file, in order of stay and hour.

        Args:
            name: The file.
            *columns: Columns to read beside ``stay_id``.
            first: First stay to read; None: from the beginning.
            last: Last stay to read; None: to the end.

        Raises:
            CheckFailed: the file cannot be read.
        """
        frame = self.scan(name)
        if first is not None and last is not None:
            frame = frame.filter(pl.col("stay_id").is_between(first, last))
        keys = ["stay_id", "hour"] if "hour" in columns else ["stay_id"]
        with report_unreadable(self.path(name), todo=_REMAKE):
            return frame.select("stay_id", *columns).collect().sort(keys, maintain_order=True)

    def read_stay_ids(self) -> pl.Series:
        """The stays in any of the files, ascending.

        Raises:
            CheckFailed: a row has no stay.
        """
        ids = []
        for name in FILES:
            column = self.read(name)["stay_id"]
            if column.null_count():
                raise CheckFailed(
                    f"{column.null_count():,} rows have no stay",
                    where=f"{self.path(name)}, column 'stay_id'",
                    todo="fix or remove those rows",
                )
            ids.append(column.unique())
        return pl.concat(ids).unique().sort()


def find_defects(sta: pl.DataFrame, dyn: pl.DataFrame, outc: pl.DataFrame) -> pl.DataFrame:
    """The first defect of each stay that cannot be used; columns as in ``STAY_DEFECTS``.

    ``dyn`` and ``outc`` are in order of stay and hour; ``label`` is a number.
    """
    repeated = sta.filter(~pl.col("stay_id").is_first_distinct())
    defects = [
        *_find_missing_stays(sta, dyn, outc),
        _make_defects(repeated, "sta", "stay_id", "duplicate_stay", "stay_id"),
        *_check_hours(dyn, "dyn"),
        *_check_hours(outc, "outc"),
        *_check_labels(outc),
        _compare_hours(dyn, outc),
    ]
    return pl.concat(defects).unique("stay_id", keep="first", maintain_order=True).sort("stay_id")


def _read_schema(file: Path) -> pl.Schema:
    if not file.is_file():
        raise CheckFailed(
            "the folder is not a YAIB cohort: a file is missing",
            where=str(file),
            todo="specify a folder with sta.parquet, dyn.parquet and outc.parquet",
        )
    with report_unreadable(file, todo=_REMAKE):
        return verify_parquet(file)


def _check_schema(
    file: Path, schema: pl.Schema, required: tuple[str, ...], numeric: set[str]
) -> None:
    for column in required:
        if column not in schema:
            note = " (a label a stay is not enough: use an hourly task)" if column == "time" else ""
            raise CheckFailed(
                f"there is no column {column!r}{note}",
                where=str(file),
                todo=f"the columns {', '.join(required)} are required; unknown cells may be empty",
            )
    for column, dtype in schema.items():
        expected = _expected_content(column, dtype, numeric)
        if expected:
            raise CheckFailed(
                f"the column {column!r} contains {dtype}, not {expected}",
                where=str(file),
                todo="write it with that type",
            )


def _expected_content(column: str, dtype: pl.DataType, numeric: set[str]) -> str | None:
    """What a column should contain; None if its type is right."""
    if column == "stay_id" and not dtype.is_integer():
        return "whole numbers"
    if column == "time" and not (isinstance(dtype, pl.Duration) or dtype.is_numeric()):
        return "durations or hours since admission"
    if column == "label" and not (dtype == pl.Boolean or dtype.is_numeric()):
        return "true and false, or 0 and 1"
    if column == "sex" and dtype not in (pl.String, pl.Categorical, pl.Null):
        return "text"
    if column in numeric and not (dtype.is_numeric() or dtype == pl.Null):
        return "numbers"
    return None


def _find_missing_stays(*frames: pl.DataFrame) -> list[pl.DataFrame]:
    """Stays that are in another file, but not in all of them."""
    ids = [frame.select("stay_id").unique() for frame in frames]
    stays = pl.concat(ids).unique().sort("stay_id")
    defects = []
    for name, frame in zip(FILES, frames, strict=True):
        missing = stays.join(frame, on="stay_id", how="anti", maintain_order="left")
        defects.append(_make_defects(missing, name, "stay_id", "in_every_file", "stay_id"))
    return defects


def _check_hours(frame: pl.DataFrame, file: str) -> list[pl.DataFrame]:
    hour = pl.col("hour")
    same_stay = pl.col("stay_id") == pl.col("stay_id").shift(1)
    step = hour - hour.shift(1)
    is_whole = hour.is_finite() & hour.is_between(0, MAX_HOURS) & (hour == hour.floor())
    rules = {
        "hour_number": ~is_whole.fill_null(value=False),
        "duplicate_hour": same_stay & (step == 0),
        "missing_hour": same_stay & (step > 1),
    }
    return [
        _make_defects(frame.filter(is_broken), file, "time", rule, "hour")
        for rule, is_broken in rules.items()
    ]


def _check_labels(outc: pl.DataFrame) -> list[pl.DataFrame]:
    label = pl.col("label")
    same_stay = pl.col("stay_id") == pl.col("stay_id").shift(1)
    rules = {
        "label": ~label.is_in([0.0, 1.0]).fill_null(value=False),
        "label_returns": same_stay & (label < label.shift(1)),
    }
    return [
        _make_defects(outc.filter(is_broken), "outc", "label", rule, "label")
        for rule, is_broken in rules.items()
    ]


def _compare_hours(dyn: pl.DataFrame, outc: pl.DataFrame) -> pl.DataFrame:
    """Stays with other first or last hours in ``dyn`` than in ``outc``."""
    first_and_last = (pl.col("hour").min(), pl.col("hour").max().alias("last"))
    dyn_hours = dyn.group_by("stay_id").agg(*first_and_last)
    outc_hours = outc.group_by("stay_id").agg(*first_and_last)
    both = dyn_hours.join(outc_hours, on="stay_id", suffix="_label").sort("stay_id")
    differs = (pl.col("hour") != pl.col("hour_label")) | (pl.col("last") != pl.col("last_label"))
    hours = pl.format("{} to {}, labels {} to {}", "hour", "last", "hour_label", "last_label")
    rows = both.filter(differs.fill_null(value=False)).with_columns(hours=hours)
    return _make_defects(rows, "dyn", "time", "same_hours", "hours")


def _make_defects(
    rows: pl.DataFrame, file: str, column: str, rule: str, value: str
) -> pl.DataFrame:
    """A defect for each row; ``value`` is the column with the offending value."""
    key = [pl.format(f"{file}.parquet stay {{}}", "stay_id")]
    if "hour" in rows.columns:
        key.append(pl.format(", hour {}", "hour").fill_null(""))
    return rows.select(
        pl.col("stay_id").cast(pl.Int64),
        table=pl.lit("stays"),
        key=pl.concat_str(key),
        column=pl.lit(column),
        rule=pl.lit(rule),
        value=pl.col(value).cast(pl.String).fill_null("nothing"),
    )
