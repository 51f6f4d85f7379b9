"""The one rule by which columns of other programs become columns of the contract: without loss.

Every way into Flowsheet follows it. Whole numbers may be written as floats and be of any width,
timestamps in any unit, text as categories; a column without values may have no type. Nothing is
guessed at: integers, floats and dates are no times, text is no number, and times of a time zone are
no local times unless that zone is declared.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from flowsheet.cohort.schema import DEFAULTS, OPTIONAL_COLUMNS, TABLES, TIME
from flowsheet.cohort.time_zones import to_local_time
from flowsheet.errors import did_you_mean

_LARGEST_WHOLE_FLOAT = 2.0**53
_MAX_EXAMPLES = 3

_EXPECTED: dict[pl.DataType, str] = {
    pl.Int64(): "whole numbers",
    pl.Float64(): "numbers",
    pl.String(): "text",
    pl.Boolean(): "true and false",
    TIME: "timestamps without a time zone",
}


@dataclass(frozen=True)
class ColumnProblem:
    """Why a column cannot become a column of the contract."""

    table: str
    column: str
    rule: str
    value: str

    def __str__(self) -> str:
        if self.rule == "missing_column":
            return f"there is no column {self.column!r} ({self.value})"
        return f"the column {self.column!r} contains {self.value}"


@dataclass(frozen=True)
class ConformedTable:
    """A table of another program, as far as it can become a table of the contract."""

    rows: pl.DataFrame
    """The contract's columns; only to be used if there are no problems."""
    problems: tuple[ColumnProblem, ...]
    unknown_columns: dict[str, int]
    """Values in each column that the contract does not have."""


def conform(table: str, frame: pl.DataFrame, time_zone: str | None = None) -> ConformedTable:
    """The rows of a table in the columns and types of the contract; optional columns may be absent.

    Args:
        table: name of the contract's table.
        frame: its rows in the types of another program.
        time_zone: the zone to whose local time zoned times are converted; None: they are a problem.
    """
    columns: list[pl.Series] = []
    problems: list[ColumnProblem] = []
    for name, dtype in TABLES[table].items():
        if name not in frame.columns:
            default = DEFAULTS.get(table, {}).get(name)
            columns.append(pl.Series(name, [default], dtype=dtype).new_from_index(0, frame.height))
            if name not in OPTIONAL_COLUMNS[table]:
                hint = did_you_mean(name, frame.columns)
                problems.append(ColumnProblem(table, name, "missing_column", hint))
            continue
        values, problem = cast_lossless(frame[name], dtype, time_zone)
        columns.append(values.alias(name))
        if problem:
            problems.append(ColumnProblem(table, name, "column_type", problem))
    unknown = [name for name in frame.columns if name not in TABLES[table]]
    counts = {name: int(frame[name].count()) for name in unknown}
    return ConformedTable(pl.DataFrame(columns), tuple(problems), counts)


def cast_lossless(
    values: pl.Series, dtype: pl.DataType, time_zone: str | None = None
) -> tuple[pl.Series, str]:
    """The values as another type, and what is wrong if that is not possible without loss.

    >>> cast_lossless(pl.Series([1.0, None]), pl.Int64())[0].to_list()
    [1, None]
    >>> cast_lossless(pl.Series([1.0, 1.5]), pl.Int64())[1]
    'Float64 such as 1.5, not whole numbers'
    >>> cast_lossless(pl.Series([1]), pl.Float64())[1], cast_lossless(pl.Series([1]), TIME)[1]
    ('', 'Int64, not timestamps without a time zone')
    """
    if values.dtype == dtype:
        return values, ""
    empty = pl.Series([None], dtype=dtype).new_from_index(0, len(values))
    problem = find_type_problem(values.dtype, dtype, time_zone)
    if problem:
        return empty, problem
    cast = pl.select(cast_column(pl.lit(values), values.dtype, dtype, time_zone)).to_series()
    is_lost = values.is_not_null() & cast.is_null()
    if dtype == pl.Int64() and values.dtype.is_float():
        is_lost &= ~values.is_nan().fill_null(value=False)  # how pandas writes an empty cell
    if not is_lost.any():
        return cast, ""
    examples = values.filter(is_lost).unique(maintain_order=True).head(_MAX_EXAMPLES)
    shown = ", ".join(str(value) for value in examples)
    return empty, f"{values.dtype} such as {shown}, not {_EXPECTED[dtype]}"


def find_type_problem(
    source: pl.DataType, target: pl.DataType, time_zone: str | None = None
) -> str:
    """What is wrong with a column's type, whatever its values are; empty if nothing is.

    >>> find_type_problem(pl.String(), pl.Float64())
    'String, not numbers'
    """
    can_be_cast = source == pl.Null or _convert(pl.lit(None), source, target, time_zone) is not None
    return "" if can_be_cast else f"{source}, not {_EXPECTED[target]}"


def is_always_lossless(source: pl.DataType, target: pl.DataType) -> bool:
    """Whether no value of a type can be lost; otherwise the values have to be looked at."""
    if source in (target, pl.Null) or target == pl.String():
        return True
    if target == pl.Float64():
        return source.is_float()
    return target == pl.Int64() and source.is_integer() and source != pl.UInt64


def cast_column(
    values: pl.Expr, source: pl.DataType, target: pl.DataType, time_zone: str | None = None
) -> pl.Expr:
    """The values as another type, null where that is not possible without loss.

    Args:
        values: a column.
        source: its type.
        target: the new type.
        time_zone: the zone to whose local time zoned times are converted.
    """
    converted = values if source == pl.Null else _convert(values, source, target, time_zone)
    assert converted is not None, find_type_problem(source, target, time_zone)
    return converted.cast(target)


def _convert(
    values: pl.Expr, source: pl.DataType, target: pl.DataType, time_zone: str | None
) -> pl.Expr | None:
    """The values that the target type can have, null for others; None for a type with none."""
    if target == TIME:
        return _take_times(values, source, time_zone)
    if target == pl.String():
        is_text = source in (pl.String, pl.Categorical, pl.Enum) or source.is_integer()
        return values if is_text else None
    if target == pl.Boolean() and source == pl.Boolean:
        return values
    if not source.is_numeric():
        return None
    if source == pl.Decimal:
        values = values.cast(pl.Float64)
    return _take_numbers(values, source, target)


def _take_numbers(values: pl.Expr, source: pl.DataType, target: pl.DataType) -> pl.Expr:
    is_integer = source.is_integer()
    fits = values.abs() <= _LARGEST_WHOLE_FLOAT
    if target == pl.Boolean():
        return pl.when(values.is_in([0, 1])).then(values == 1)
    if target == pl.Float64():
        return pl.when(fits).then(values) if is_integer else values
    if is_integer:
        return values.cast(pl.Int64, strict=False)
    return pl.when(fits & (values == values.floor())).then(values)


def _take_times(values: pl.Expr, source: pl.DataType, time_zone: str | None) -> pl.Expr | None:
    if not isinstance(source, pl.Datetime) or (source.time_zone and not time_zone):
        return None
    if source.time_unit == "ns":
        values = pl.when(values.dt.nanosecond() % 1_000 == 0).then(values)
    times = values.dt.cast_time_unit("us")
    return to_local_time(times, time_zone) if source.time_zone and time_zone else times
