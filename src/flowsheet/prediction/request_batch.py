"""Several requests as one set of tables: typed and checked together, blamed one by one.

Stays get numbers of their own, in the order of the requests, so that two requests may speak of one
``stay_id`` without meeting. A stay's numbers are 0, 1, 2, ... over the batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from itertools import chain, repeat
from typing import Any

import numpy as np
import polars as pl

from flowsheet.cohort.catalogue import drugs, variables
from flowsheet.cohort.rules import find_row_failures, list_failures, no_failures
from flowsheet.cohort.schema import TABLES, TIME, Tables, empty_table
from flowsheet.errors import did_you_mean
from flowsheet.prediction.errors import (
    SHOWN,
    Problem,
    Refused,
    invalid,
    shown,
)
from flowsheet.prediction.input_rows import ended
from flowsheet.prediction.limits import Limits
from flowsheet.prediction.request_parser import Asked, Columns

EARLIEST, LATEST = datetime(1800, 1, 1), datetime(2400, 1, 1)
"""Times outside are mistakes, whatever calendar a source has moved its patients to."""

_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M")
_EARLIEST, _LATEST = np.datetime64(EARLIEST, "us"), np.datetime64(LATEST, "us")
_TIMES = {
    table: [name for name, kind in columns.items() if kind == TIME]
    for table, columns in TABLES.items()
}
UNKNOWN_STAY = -1
"""The number of a stay whose row was not sent."""
_HINTS = {
    "time": "give ISO 8601 text without a time zone, such as 2000-01-01T08:30:00",
    "calendar": f"times lie between {EARLIEST:%Y} and {LATEST:%Y}",
    "not_null": "it must be given",
    "known_stay": "send the stay's row of the table stays along",
    "inside_stay": "a fact lies at most 24 h outside its stay",
    "known_not_before_true": "nothing is known before it is true",
    "admitted_before_discharged": "a stay ends after it begins; leave discharged_at out for one that goes on",
    "plausible_range": "no living patient has such a value in the catalogue's unit",
    "duplicate": "it is told twice",
    "known_unit": "give doses in the catalogue's unit",
    "known_sex": "F, M or null",
}


@dataclass(frozen=True)
class Batch:
    """The tables of some requests, and which stays belong to which."""

    tables: Tables
    stay_ids: list[list[int]]
    """For each request the ids of its stays, in the order sent."""
    first: list[int]
    """For each request the batch's number of its first stay."""
    rows: list[int]
    """For each request the rows of its tables together."""

    @property
    def stays(self) -> int:
        """How many stays there are."""
        return self.tables.stays.height

    def original(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The ids as sent, by the batch's numbers."""
        return np.fromiter(chain.from_iterable(self.stay_ids), np.int64, self.stays)


def combine(
    asked: Sequence[Asked], limits: Limits, step_hours: float
) -> tuple[Batch | None, dict[int, Refused]]:
    """The batch, or None and the refusals of the requests (by position) that stand in its way."""
    numbers, first = _number(asked)
    tables, failures = check(
        {name: _frame(asked, name, numbers) for name in TABLES}, limits, step_hours
    )
    refused = _blame(asked, failures)
    if tables is None or refused:
        return None, refused
    refused = too_long([one.rows["stays"] for one in asked], tables, limits, step_hours)
    if refused:
        return None, refused
    stay_ids = [one.tables["stays"]["stay_id"] for one in asked]
    return Batch(tables, stay_ids, first, [sum(one.rows.values()) for one in asked]), {}


def check(
    text: dict[str, pl.DataFrame], limits: Limits, step_hours: float
) -> tuple[Tables | None, pl.DataFrame]:
    """The tables, typed (None where a time is none), and the rows that break a rule; columns as in ``FAILURES``."""
    typed = {name: _typed(name, frame) for name, frame in text.items()}
    failures = _unreadable(text, typed)
    if failures.height:
        return None, failures
    tables = Tables(**typed)
    tables = replace(tables, stays=ended(tables))
    return tables, _broken(tables, typed["stays"]["discharged_at"].is_null(), limits, step_hours)


def _number(asked: Sequence[Asked]) -> tuple[list[dict[int | None, int]], list[int]]:
    """For each request its stays' numbers in the batch, and the first of them. A stay told twice has one number."""
    numbers: list[dict[int | None, int]] = []
    first = []
    begin = 0
    for one in asked:
        ids = one.tables["stays"]["stay_id"]
        first.append(begin)
        numbers.append({stay: begin + i for i, stay in enumerate(ids) if stay is not None})
        begin += len(ids)
    return numbers, first


def _frame(
    asked: Sequence[Asked], table: str, numbers: Sequence[dict[int | None, int]]
) -> pl.DataFrame:
    """A table of all requests, times still as text."""
    parts = [
        (one.tables[table], one.rows[table], stays)
        for one, stays in zip(asked, numbers, strict=True)
    ]
    parts = [part for part in parts if part[1]]
    stay = list(
        chain.from_iterable(map(_numbered, (p[0]["stay_id"] for p in parts), (p[2] for p in parts)))
    )
    columns = [pl.Series("stay_id", stay, pl.Int64)]
    for name, kind in TABLES[table].items():
        if name == "subject_id":
            columns.append(columns[0].alias(name))
        elif name != "stay_id":
            columns.append(
                _series(
                    name, kind, [(columns_of, rows) for columns_of, rows, _ in parts], len(stay)
                )
            )
    return pl.DataFrame(columns)


def _numbered(ids: list[int | None], stays: dict[int | None, int]) -> list[int | None]:
    return [None if stay is None else stays.get(stay, UNKNOWN_STAY) for stay in ids]


def _series(
    name: str, kind: pl.DataType, parts: Sequence[tuple[Columns, int]], rows: int
) -> pl.Series:
    kind = pl.String() if kind == TIME else kind
    if not any(name in columns for columns, _ in parts):
        return pl.Series(name, [None], kind).new_from_index(0, rows)
    values = chain.from_iterable(columns.get(name) or repeat(None, n) for columns, n in parts)
    if kind == pl.Float64():
        return pl.Series(name, np.array(list(values), np.float64), nan_to_null=True)
    return pl.Series(name, list(values), kind)


def _typed(table: str, text: pl.DataFrame) -> pl.DataFrame:
    """The table with its times; null where the text is no ISO 8601."""
    if text.is_empty():
        return _empty(table)
    told = [name for name in _TIMES[table] if text[name].null_count() < text.height]
    frame = text.with_columns(
        pl.col(told).str.to_datetime(_FORMATS[0], time_unit="us", strict=False),
        pl.col([name for name in _TIMES[table] if name not in told]).cast(TIME),
    )
    other = [name for name in told if frame[name].null_count() > text[name].null_count()]
    if other:
        ways = [
            [pl.col(name).str.to_datetime(f, time_unit="us", strict=False) for f in _FORMATS]
            for name in other
        ]
        frame = frame.with_columns(text.select(pl.coalesce(parsed) for parsed in ways))
    return frame


_empty = lru_cache(empty_table)


def _unreadable(text: dict[str, pl.DataFrame], typed: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Times that are none, or far from every calendar in use."""
    lines = []
    for table, frame in typed.items():
        for column in _TIMES[table] if frame.height else ():
            times, sent = frame[column], text[table][column]
            if times.null_count() > sent.null_count():
                lines.append(
                    list_failures(
                        table, text[table], times.is_null() & sent.is_not_null(), column, "time"
                    )
                )
            when = times.to_numpy()
            far = (when < _EARLIEST) | (when > _LATEST)
            if far.any():
                lines.append(list_failures(table, text[table], pl.Series(far), column, "calendar"))
    return pl.concat(lines) if lines else no_failures()


def _broken(tables: Tables, ongoing: pl.Series, limits: Limits, step_hours: float) -> pl.DataFrame:
    """Rows that break the contract's rules. A stay that goes on has lasted a moment at least."""
    stays = tables.stays
    if ongoing.any():
        end = pl.max_horizontal("discharged_at", pl.col("admitted_at").dt.offset_by("1us"))
        stays = stays.with_columns(
            pl.when(ongoing).then(end).otherwise("discharged_at").alias("discharged_at")
        )
    facts = {name: getattr(tables, name) for name in TABLES if name != "stays"}
    lines = [
        find_row_failures("stays", stays, stays),
        *(find_row_failures(name, frame, stays) for name, frame in facts.items() if frame.height),
    ]
    long = _hours(stays) > limits.steps_per_stay * step_hours
    if long.any():
        lines.insert(
            1, list_failures("stays", stays, pl.Series(long), "discharged_at", "steps_per_stay")
        )
    found = [line for line in lines if line.height]
    return pl.concat(found) if found else no_failures()


def _hours(stays: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """How long each stay lasts; NaN where that is not told."""
    lasted = stays["discharged_at"].to_numpy() - stays["admitted_at"].to_numpy()
    return np.where(np.isnat(lasted), np.nan, lasted / np.timedelta64(1, "h"))


def too_long(
    stays: Sequence[int], tables: Tables, limits: Limits, step_hours: float
) -> dict[int, Refused]:
    """Requests, each of so many stays, that together have more steps than one request may ask for."""
    steps = np.ceil(_hours(tables.stays) / step_hours)
    total = np.add.reduceat(steps, np.cumsum([0, *stays[:-1]]))
    return {
        int(i): Refused(
            413,
            "too_many_steps",
            f"{total[i]:.0f} steps in one request; at most {limits.steps} are taken",
        )
        for i in np.flatnonzero(total > limits.steps)
    }


def _blame(asked: Sequence[Asked], failures: pl.DataFrame) -> dict[int, Refused]:
    """The refusal of each request that has failures."""
    if failures.is_empty():
        return {}
    problems: dict[int, list[Problem]] = defaultdict(list)
    count: dict[int, int] = defaultdict(int)
    for table, lines in failures.group_by("table", maintain_order=True):
        name = str(table[0])
        starts = np.cumsum([0] + [one.rows[name] for one in asked])
        rows = lines["row"].to_numpy() - 1
        request = np.searchsorted(starts, rows, side="right") - 1
        for i in np.unique(request).tolist():
            mine = np.flatnonzero(request == i)
            count[i] += len(mine)
            for line in mine[:SHOWN].tolist():
                column, rule = lines["column"][line], lines["rule"][line]
                problems[i].append(
                    _problem(asked[i], name, int(rows[line] - starts[i]), column, rule)
                )
    return {i: invalid(found, count[i]) for i, found in problems.items()}


def _problem(asked: Asked, table: str, row: int, column: str, rule: str) -> Problem:
    sent = asked.tables[table].get(column)
    value = shown(sent[row] if sent else None)
    return Problem(
        table,
        row + 1,
        column,
        rule,
        value,
        f"row {row + 1} of {table}, {column}: {_why(rule, value)}",
    )


def _why(rule: str, value: str | None) -> str:
    if rule == "known_variable":
        return (
            f"the catalogue has no such variable; {did_you_mean((value or '')[:40], variables())}"
        )
    if rule == "known_drug":
        return f"the catalogue has no such drug; {did_you_mean((value or '')[:40], drugs())}"
    words = rule.replace("_", " ")
    return f"{words}: {_HINTS[rule]}" if rule in _HINTS else f"it breaks the rule {words}"
