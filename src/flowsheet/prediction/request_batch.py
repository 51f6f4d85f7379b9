"""Several requests as one set of tables: checked together, rejected one by one.

The stays of a batch are numbered 0, 1, 2, ... in the order of the requests, so that two requests
may use the same ``stay_id`` for different patients.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
import polars as pl

from flowsheet.cohort.schema import TABLES, TIME, Tables
from flowsheet.prediction.errors import (
    MAX_LISTED_PROBLEMS,
    Problem,
    RequestRejected,
    format_value,
    invalid_request,
)
from flowsheet.prediction.limits import Limits
from flowsheet.prediction.parsed_request import Columns, ParsedRequest
from flowsheet.prediction.request_checks import check_tables, explain, reject_too_long
from flowsheet.typing import Ints

UNKNOWN_STAY = -1
"""The number of a stay whose row was not sent."""

StayNumbers = dict[int | None, int]
"""{stay_id: number in the batch} of one request."""


@dataclass(frozen=True)
class RequestBatch:
    """The tables of some requests, and which stays belong to which request."""

    tables: Tables
    stay_ids: list[list[int]]
    """For each request the ids of its stays, in the order sent."""
    first_stays: list[int]
    """For each request the batch's number of its first stay."""
    row_counts: list[int]
    """For each request the rows of its tables together."""
    subject_ids: list[list[int | None]]
    """For each request the subjects of its stays as sent, which no prediction uses."""

    @property
    def stays(self) -> int:
        """How many stays there are."""
        return self.tables.stays.height

    def original_stay_ids(self) -> Ints:
        """The ids as sent, by the batch's numbers; shape (stays,)."""
        return np.fromiter(chain.from_iterable(self.stay_ids), np.int64, self.stays)


def combine_requests(
    requests: Sequence[ParsedRequest],
    limits: Limits,
    step_hours: float,
    response: str | None = None,
) -> tuple[RequestBatch | None, dict[int, RequestRejected]]:
    """Combine requests to a batch if none of them breaks a rule.

    Args:
        requests: at least one.
        limits: how many steps a stay and a request may have.
        step_hours: length of the model's step, in hours.
        response: that the model predicts, besides the registered ones.

    Returns:
        The batch and no rejections; or None and {position of a wrong request: its rejection}.
    """
    numbers, first_stays = _number_stays(requests)
    text_tables = {table: text_table(requests, table, numbers) for table in TABLES}
    tables, failures = check_tables(text_tables, limits, step_hours, response)
    rejected = _reject_failures(requests, failures)
    if tables is None or rejected:
        return None, rejected
    stay_counts = [request.row_counts["stays"] for request in requests]
    rejected = reject_too_long(stay_counts, tables, limits, step_hours)
    if rejected:
        return None, rejected
    stay_ids = [request.tables["stays"]["stay_id"] for request in requests]
    row_counts = [request.rows for request in requests]
    subject_ids = [_sent_subjects(request) for request in requests]
    return RequestBatch(tables, stay_ids, first_stays, row_counts, subject_ids), {}


def _sent_subjects(request: ParsedRequest) -> list[int | None]:
    sent = request.tables["stays"].get("subject_id")
    return sent if sent is not None else [None] * request.row_counts["stays"]


def text_table(
    requests: Sequence[ParsedRequest], table: str, numbers: Sequence[StayNumbers] | None = None
) -> pl.DataFrame:
    """One table of all requests with the contract's columns, times still as text.

    Args:
        requests: the requests, in the order in which their rows follow each other.
        table: the table's name.
        numbers: for each request the numbers that replace its stay ids; None keeps the ids.
    """
    parts: list[tuple[Columns, int]] = []
    stay_ids: list[int | None] = []
    for i, request in enumerate(requests):
        columns, rows = request.tables[table], request.row_counts[table]
        if rows:
            parts.append((columns, rows))
            ids = columns["stay_id"]
            stay_ids += _replace_ids(ids, numbers[i]) if numbers else ids
    series = [pl.Series("stay_id", stay_ids, pl.Int64)]
    for name, kind in TABLES[table].items():
        if name == "subject_id":  # no prediction depends on it: every stay is its own subject
            series.append(series[0].alias(name))
        elif name != "stay_id":
            series.append(_join_column(name, kind, parts, len(stay_ids)))
    return pl.DataFrame(series)


def _number_stays(requests: Sequence[ParsedRequest]) -> tuple[list[StayNumbers], list[int]]:
    """For each request its stays' numbers and the first of them; a repeated id has one number."""
    numbers: list[StayNumbers] = []
    first_stays = []
    start = 0
    for request in requests:
        ids = request.tables["stays"]["stay_id"]
        first_stays.append(start)
        numbers.append({stay: start + i for i, stay in enumerate(ids) if stay is not None})
        start += len(ids)
    return numbers, first_stays


def _replace_ids(ids: list[int | None], numbers: StayNumbers) -> list[int | None]:
    return [None if stay is None else numbers.get(stay, UNKNOWN_STAY) for stay in ids]


def _join_column(
    name: str, kind: pl.DataType, parts: Sequence[tuple[Columns, int]], rows: int
) -> pl.Series:
    kind = pl.String() if kind == TIME else kind
    if not any(name in columns for columns, _ in parts):
        return pl.Series(name, [None], kind).new_from_index(0, rows)
    values = chain.from_iterable(columns.get(name) or repeat(None, n) for columns, n in parts)
    if kind == pl.Float64():
        return pl.Series(name, np.array(list(values), np.float64), nan_to_null=True)
    return pl.Series(name, list(values), kind)


def _reject_failures(
    requests: Sequence[ParsedRequest], failures: pl.DataFrame
) -> dict[int, RequestRejected]:
    """{position: rejection} of each request that has failures."""
    problems: dict[int, list[Problem]] = defaultdict(list)
    counts: dict[int, int] = defaultdict(int)
    for (table,), lines in failures.group_by("table", maintain_order=True):
        name = str(table)
        starts = np.cumsum([0] + [request.row_counts[name] for request in requests])
        rows = lines["row"].to_numpy() - 1
        positions = np.searchsorted(starts, rows, side="right") - 1
        for position in np.unique(positions).tolist():
            own_lines = np.flatnonzero(positions == position)
            counts[position] += len(own_lines)
            for line in own_lines[:MAX_LISTED_PROBLEMS].tolist():
                row = int(rows[line] - starts[position])
                failure = lines.row(line, named=True)
                problems[position].append(
                    _describe(requests[position], name, row, failure["column"], failure["rule"])
                )
    return {
        position: invalid_request(found, counts[position]) for position, found in problems.items()
    }


def _describe(request: ParsedRequest, table: str, row: int, column: str, rule: str) -> Problem:
    """The problem that a failure means for the sender, with the value as sent."""
    sent = request.tables[table].get(column)
    value = format_value(sent[row] if sent else None)
    message = f"row {row + 1} of {table}, {column}: {explain(rule, value)}"
    return Problem(table, row + 1, column, rule, value, message)
