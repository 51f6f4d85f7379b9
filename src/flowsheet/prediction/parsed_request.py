"""One request as columns of plain values, and the rules that its columns obey.

JSON bodies and the rows of MLflow's scoring API both become a :class:`ParsedRequest`, so that one
set of rules decides which columns and which types of values are accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from flowsheet.cohort.schema import TABLES, TIME
from flowsheet.errors import did_you_mean
from flowsheet.prediction.errors import Problem, format_value

Columns = dict[str, list[Any]]
"""The columns of one table: lists of equal length, null as ``None``, times as text."""

REQUIRED_COLUMNS: dict[str, tuple[str, ...]] = {
    "stays": ("stay_id", "admitted_at"),
    "events": ("stay_id", "time", "known_at", "variable", "value"),
    "treatments": ("stay_id", "drug", "start", "end", "known_at"),
    "episodes": ("stay_id", "onset", "known_at"),
}
"""Columns that a table with rows must have, and that no row may leave null."""

TIME_FORMAT_HINT = "ISO 8601 text without a time zone, such as 2000-01-01T08:30:00"

_INT64_LIMIT = 2**63


@dataclass(frozen=True)
class ParsedRequest:
    """The tables of one request; every value has a type that its column accepts."""

    tables: dict[str, Columns]
    """The columns that were sent, table by table; a table that was not sent has none."""
    row_counts: dict[str, int]

    @classmethod
    def from_tables(cls, tables: dict[str, Columns]) -> ParsedRequest:
        """The request with these tables."""
        return cls(tables, {name: count_rows(columns) for name, columns in tables.items()})

    @property
    def rows(self) -> int:
        """Rows of all tables together."""
        return sum(self.row_counts.values())


@dataclass(frozen=True)
class _AcceptedValues:
    types: frozenset[type]
    description: str


_NULL = type(None)
_ACCEPTED: dict[pl.DataType, _AcceptedValues] = {
    pl.Int64(): _AcceptedValues(frozenset({int, _NULL}), "a whole number of 64 bits"),
    pl.Float64(): _AcceptedValues(frozenset({int, float, _NULL}), "a number"),
    pl.String(): _AcceptedValues(frozenset({str, _NULL}), "text"),
    pl.Boolean(): _AcceptedValues(frozenset({bool, _NULL}), "true or false"),
    TIME: _AcceptedValues(frozenset({str, _NULL}), TIME_FORMAT_HINT),
}


def count_rows(columns: Columns) -> int:
    """Rows of a table whose columns are of one length."""
    return len(next(iter(columns.values()), ()))


def required_columns_message(table: str) -> str:
    """What a user reads when a required column is missing."""
    return f"{table} needs {', '.join(REQUIRED_COLUMNS[table])}"


def find_column_problems(tables: Mapping[str, Columns]) -> list[Problem]:
    """Unknown and missing columns; where there are none, values of a wrong type."""
    filled = {name: columns for name, columns in tables.items() if count_rows(columns)}
    problems: list[Problem] = []
    for table, columns in filled.items():
        problems += _find_name_problems(table, columns)
    if problems:
        return problems
    for table, columns in filled.items():
        problems += _find_type_problems(table, columns)
    return problems


def table_problem(table: str, column: str | None, rule: str, message: str) -> Problem:
    """A problem of a table or of one of its columns as a whole.

    Args:
        table: Name of the table.
        column: Name of the column; None for the table as a whole.
        rule: Name of the rule that is broken.
        message: What is wrong and how to fix it.
    """
    return Problem(table, None, format_value(column), rule, None, message)


def _find_name_problems(table: str, columns: Columns) -> list[Problem]:
    known = TABLES[table]
    problems = []
    for name in columns:
        if name not in known:
            message = f"{table} has no such column; {did_you_mean(name[:40], known)}"
            problems.append(table_problem(table, name, "extra_column", message))
    for name in REQUIRED_COLUMNS[table]:
        if name not in columns:
            message = required_columns_message(table)
            problems.append(table_problem(table, name, "missing_column", message))
    return problems


def _find_type_problems(table: str, columns: Columns) -> list[Problem]:
    problems = []
    for name, values in columns.items():
        kind = TABLES[table][name]
        message = f"{name} must be {_ACCEPTED[kind].description}"
        for i in _find_wrong_values(values, kind):
            problem = Problem(table, i + 1, name, "type", format_value(values[i]), message)
            problems.append(problem)
    return problems


def _find_wrong_values(values: list[Any], kind: pl.DataType) -> list[int]:
    """Positions of values that a column of that type does not accept."""
    accepted = _ACCEPTED[kind].types
    if not set(map(type, values)) <= accepted:
        return [i for i, value in enumerate(values) if type(value) not in accepted]
    if kind != pl.Int64():
        return []
    numbers = {value for value in set(values) if value is not None}
    too_large = {number for number in numbers if not -_INT64_LIMIT <= number < _INT64_LIMIT}
    return [i for i, value in enumerate(values) if value in too_large] if too_large else []
