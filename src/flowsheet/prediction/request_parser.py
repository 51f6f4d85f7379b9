"""From the bytes of a request to columns of plain values: one request at a time, without a frame.

A request is a JSON object with one key a table. A table is a list of records, or an object of
columns of one length; a column that may be null can be left out. ``discharged_at`` is left out for
a stay that goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import orjson
import polars as pl

from flowsheet.cohort.schema import TABLES, TIME
from flowsheet.errors import did_you_mean
from flowsheet.prediction.errors import (
    Problem,
    Refused,
    invalid,
    shown,
)
from flowsheet.prediction.input_rows import REQUIRED
from flowsheet.prediction.limits import Limits

Columns = dict[str, list[Any]]

NEEDED = {table: ("stay_id", *columns) for table, columns in REQUIRED.items()}
"""Columns that a table with rows must have."""

_NOTHING = type(None)
_KINDS: dict[pl.DataType, tuple[frozenset[type], str]] = {
    pl.Int64(): (frozenset({int, _NOTHING}), "a whole number of 64 bits"),
    pl.Float64(): (frozenset({int, float, _NOTHING}), "a number"),
    pl.String(): (frozenset({str, _NOTHING}), "text"),
    TIME: (
        frozenset({str, _NOTHING}),
        "ISO 8601 text without a time zone, such as 2000-01-01T08:30:00",
    ),
}
_INT64 = 2**63


@dataclass(frozen=True)
class Asked:
    """One request: the columns that were sent, table by table, each value of a kind that its column takes."""

    tables: dict[str, Columns]
    rows: dict[str, int]


def read(body: bytes, limits: Limits) -> Asked:
    """The request in the body.

    Raises:
        Refused: it is no JSON (400), too large (413), or not of the right shape and kinds of values
        (422).
    """
    told = _parsed(body)
    if strange := [key for key in told if key not in TABLES]:
        todo = did_you_mean(strange[0][:40], TABLES)
        raise invalid(
            [
                Problem(
                    shown(strange[0]),
                    None,
                    None,
                    "known_table",
                    None,
                    f"there is no such table; {todo}",
                )
            ]
        )
    tables = {name: _columns(name, told.get(name)) for name in TABLES}
    rows = {name: len(next(iter(columns.values()), ())) for name, columns in tables.items()}
    _check_size(rows, limits)
    problems = [p for name, columns in tables.items() if rows[name] for p in _shape(name, columns)]
    problems = problems or [p for name, columns in tables.items() for p in _kinds(name, columns)]
    if problems:
        raise invalid(problems)
    return Asked(tables, rows)


def _parsed(body: bytes) -> dict[str, Any]:
    if not body.strip():
        raise Refused(400, "empty", "the body is empty; send a JSON object with the tables")
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, "not_json", f"the body is no JSON: {error}") from None
    if not isinstance(told, dict):
        problem = Problem(
            None, None, None, "object", None, f"send an object with the tables {', '.join(TABLES)}"
        )
        raise invalid([problem])
    return told


def _columns(table: str, told: Any) -> Columns:
    """The columns of a table that was sent either way."""
    if told is None:
        return {}
    if isinstance(told, list):
        return _from_records(table, told)
    if isinstance(told, dict):
        return _from_columns(table, told)
    raise invalid(
        [_whole(table, None, "table_form", "send a list of records or an object of columns")]
    )


def _from_records(table: str, records: list[Any]) -> Columns:
    if not set(map(type, records)) <= {dict}:
        row = next(i for i, record in enumerate(records, 1) if type(record) is not dict)
        message = f"every row of {table} is an object"
        raise invalid([Problem(table, row, None, "record", shown(records[row - 1]), message)])
    if alike := _alike(records):
        return alike
    names = dict.fromkeys(name for record in records for name in record)
    if records and not names:
        raise invalid(
            [_whole(table, None, "missing_column", f"{table} needs {', '.join(NEEDED[table])}")]
        )
    return {name: [record.get(name) for record in records] for name in names}


def _alike(records: list[dict[str, Any]]) -> Columns | None:
    """The columns of records that all have the keys of the first, which is usual; None for others."""
    names = list(records[0]) if records else []
    if len(names) < 2 or set(map(len, records)) != {len(names)}:
        return None
    try:
        return dict(
            zip(names, map(list, zip(*map(itemgetter(*names), records), strict=True)), strict=True)
        )
    except KeyError:
        return None


def _from_columns(table: str, columns: dict[str, Any]) -> Columns:
    for name, values in columns.items():
        if not isinstance(values, list):
            raise invalid([_whole(table, name, "column_form", "a column is a list of values")])
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{shown(name)} {length}" for name, length in list(lengths.items())[:20])
        raise invalid(
            [
                _whole(
                    table,
                    None,
                    "column_lengths",
                    f"the columns of {table} differ in length: {told}",
                )
            ]
        )
    return columns


def _check_size(rows: dict[str, int], limits: Limits) -> None:
    for what, number, limit in (
        ("rows", sum(rows.values()), limits.rows),
        ("stays", rows["stays"], limits.stays),
    ):
        if number > limit:
            message = (
                f"{number} {what} in one request; at most {limit} are taken: send several requests"
            )
            raise Refused(413, f"too_many_{what}", message)
    if rows["stays"] == 0:
        raise invalid([_whole("stays", None, "stays_given", "send at least one stay")])


def _shape(table: str, columns: Columns) -> list[Problem]:
    """Columns that there are not, and columns that must be there."""
    known = TABLES[table]
    extra = [name for name in columns if name not in known]
    missing = [name for name in NEEDED[table] if name not in columns]
    return [
        *(
            _whole(
                table,
                n,
                "extra_column",
                f"{table} has no such column; {did_you_mean(n[:40], known)}",
            )
            for n in extra
        ),
        *(
            _whole(table, n, "missing_column", f"{table} needs {', '.join(NEEDED[table])}")
            for n in missing
        ),
    ]


def _kinds(table: str, columns: Columns) -> list[Problem]:
    """Values that are of no kind that their column takes."""
    found = []
    for name, values in columns.items():
        kind = TABLES[table][name]
        allowed, words = _KINDS[kind]
        bad = (
            []
            if set(map(type, values)) <= allowed
            else [i for i, v in enumerate(values) if type(v) not in allowed]
        )
        if not bad and kind == pl.Int64():
            large = {v for v in set(values) if v is not None and not -_INT64 <= v < _INT64}
            bad = [i for i, v in enumerate(values) if v in large] if large else []
        message = f"{name} must be {words}"
        found += [Problem(table, i + 1, name, "type", shown(values[i]), message) for i in bad]
    return found


def _whole(table: str, column: str | None, rule: str, message: str) -> Problem:
    return Problem(table, None, shown(column), rule, None, message)
