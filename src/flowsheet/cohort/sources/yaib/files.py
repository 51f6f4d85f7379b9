"""The three tables of a YAIB cohort: opened, read for some stays at a time, and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from flowsheet.cohort.lossless import find_type_problem
from flowsheet.cohort.parquet import TypedFile, report_unreadable, verify_parquet
from flowsheet.cohort.record_files import find_table_files
from flowsheet.cohort.sources.base import DEFECTS
from flowsheet.errors import CheckFailed

FILES = ("sta", "dyn", "outc")
REQUIRED: dict[str, tuple[str, ...]] = {
    "sta": ("stay_id", "age", "sex", "height", "weight"),
    "dyn": ("stay_id", "time"),
    "outc": ("stay_id", "label"),  # and "time", unless a stay has one label
}
MAX_HOURS = 100_000
"""Eleven years; a larger number of hours is a mistake."""

STAY_DEFECTS: dict[str, pl.DataType] = {"stay_id": pl.Int64(), **DEFECTS}
"""One row for each defect of a stay."""

_REMAKE = "write the files of the cohort again"


@dataclass(frozen=True)
class CohortFiles:
    """The three tables of a YAIB cohort, with their columns and types validated."""

    folder: Path
    parts: dict[str, tuple[TypedFile, ...]]
    """The files of each table; all files of a table have the same columns."""

    @classmethod
    def open(cls, folder: Path, numeric: set[str]) -> CohortFiles:
        """Open the folder; ``numeric`` are the columns of ``dyn`` that must contain numbers.

        Raises:
            CheckFailed: a file or a column is missing, is unreadable, or has a wrong type.
        """
        parts = {name: _open_table(folder, name, numeric) for name in FILES}
        return cls(folder, parts)

    @property
    def has_hourly_labels(self) -> bool:
        """Whether labels are of hours; otherwise a stay has one."""
        return "time" in self.columns("outc")

    def columns(self, name: str) -> list[str]:
        """The columns of a table."""
        return list(self.parts[name][0].schema)

    def paths(self, name: str) -> list[Path]:
        """The files of a table."""
        return [part.path for part in self.parts[name]]

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
        frames = [_read_part(part, columns, first, last) for part in self.parts[name]]
        keys = ["stay_id", "hour"] if "hour" in columns else ["stay_id"]
        return pl.concat(frames).sort(keys, maintain_order=True)

    def count_values(self, name: str, column: str) -> int:
        """How many cells of a column have a value, of whatever type."""
        counts = [
            _collect(part, part.scan().select(pl.col(column).count())).item()
            for part in self.parts[name]
        ]
        return int(sum(counts))

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
                    where=f"{self.paths(name)[0]}, column 'stay_id'",
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


def _read_part(
    part: TypedFile, columns: tuple[str, ...], first: int | None, last: int | None
) -> pl.DataFrame:
    """Some columns of a file, and of ``time`` the number of hours.

    Args:
        part: the file.
        columns: columns to read beside ``stay_id``.
        first: first stay to read; None: from the beginning.
        last: last stay to read; None: to the end.
    """
    frame = part.scan()
    if first is not None and last is not None:
        frame = frame.filter(pl.col("stay_id").is_between(first, last))
    if "hour" in columns:
        hour = pl.col("time")
        if isinstance(part.schema["time"], pl.Duration):
            hour = hour.cast(pl.Duration("us")).dt.total_microseconds() / 3.6e9
        frame = frame.with_columns(hour=hour.cast(pl.Float64))
    if "label" in columns:
        frame = frame.with_columns(pl.col("label").cast(pl.Float64))
    return _collect(part, frame.select("stay_id", *columns))


def _collect(part: TypedFile, frame: pl.LazyFrame) -> pl.DataFrame:
    with report_unreadable(part.path, todo=_REMAKE):
        return frame.collect()


def _open_table(folder: Path, name: str, numeric: set[str]) -> tuple[TypedFile, ...]:
    files = find_table_files(folder, name, (".parquet",))
    if not files:
        raise CheckFailed(
            "the folder is not a YAIB cohort: a file is missing",
            where=str(folder / f"{name}.parquet"),
            todo="specify a folder with sta.parquet, dyn.parquet and outc.parquet",
        )
    numbers = numeric if name == "dyn" else {"age", "height", "weight"}
    parts = tuple(_open_file(name, file, numbers) for file in files)
    for part in parts[1:]:
        differing = set(part.schema) ^ set(parts[0].schema)
        if differing:
            raise CheckFailed(
                f"not all files of {name} have the column {min(differing)!r}",
                where=f"{part.path} and {parts[0].path}",
                todo="write the files with the same columns",
            )
    return parts


def _open_file(name: str, file: Path, numbers: set[str]) -> TypedFile:
    with report_unreadable(file, todo=_REMAKE):
        schema = verify_parquet(file)
    for column in REQUIRED[name]:
        if column not in schema:
            raise CheckFailed(
                f"there is no column {column!r}",
                where=str(file),
                todo=f"the columns {', '.join(REQUIRED[name])} are required; unknown cells may be "
                "empty",
            )
    types: dict[str, pl.DataType] = dict.fromkeys(numbers, pl.Float64())
    types |= {"stay_id": pl.Int64(), "subject_id": pl.Int64(), "sex": pl.String()}
    _check_hours_and_labels(file, schema, types)
    typed = TypedFile(file, schema, types)
    typed.check(name, "write it with that type")
    return typed


def _check_hours_and_labels(file: Path, schema: pl.Schema, types: dict[str, pl.DataType]) -> None:
    """Refuse types that are neither hours nor labels; numbers are added to ``types``."""
    kinds = {
        "time": (pl.Duration, "durations or hours since admission"),
        "label": (pl.Boolean, "true and false, or 0 and 1"),
    }
    for column, (other, content) in kinds.items():
        dtype = schema.get(column)
        if dtype is None or isinstance(dtype, other):
            continue
        if find_type_problem(dtype, pl.Float64()):
            raise CheckFailed(
                f"the column {column!r} contains {dtype}, not {content}",
                where=str(file),
                todo="write it with that type",
            )
        types[column] = pl.Float64()


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
