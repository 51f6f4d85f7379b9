"""The JSON body of one request as columns of plain values.

A request is an object with one key a table. A table is a list of records, or an object of columns
of one length; a column that may be null can be left out. ``discharged_at`` is left out for a stay
that has not ended.
"""

from __future__ import annotations

import json
from operator import itemgetter
from typing import Any

import orjson

from flowsheet.cohort.schema import TABLES
from flowsheet.errors import did_you_mean
from flowsheet.prediction.errors import (
    Problem,
    RequestRejected,
    format_value,
    invalid_request,
)
from flowsheet.prediction.limits import Limits
from flowsheet.prediction.parsed_request import (
    Columns,
    ParsedRequest,
    find_column_problems,
    required_columns_message,
    table_problem,
)

_MAX_LISTED_COLUMNS = 20


def parse_json(body: bytes, limits: Limits) -> ParsedRequest:
    """Parse the body of one request.

    Raises:
        RequestRejected: it is not JSON (400), too large (413), or its tables, columns or types of
            values are wrong (422).
    """
    sent = _load_object(body)
    _check_table_names(sent)
    request = ParsedRequest.from_tables(
        {name: _to_columns(name, sent.get(name)) for name in TABLES}
    )
    _check_size(request, limits)
    if problems := find_column_problems(request.tables):
        raise invalid_request(problems)
    return request


def _load_object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        message = "the body is empty; send a JSON object with the tables"
        raise RequestRejected(400, "empty", message)
    try:
        sent = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestRejected(400, "not_json", f"the body is not JSON: {error}") from None
    if not isinstance(sent, dict):
        message = f"send an object with the tables {', '.join(TABLES)}"
        raise invalid_request([Problem(None, None, None, "object", None, message)])
    _check_unique_keys(body)
    return sent


def _check_unique_keys(body: bytes) -> None:
    """Reject a key that an object has twice: orjson keeps the last value and drops the others."""
    try:
        json.loads(body, object_pairs_hook=_reject_duplicates, parse_int=float)
    except RecursionError:
        message = "the body is not JSON: it is nested too deeply"
        raise RequestRejected(400, "not_json", message) from None


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) == len(names):
        return
    name = next(name for i, name in enumerate(names) if name in names[:i])
    message = f"the key {format_value(name)!r} occurs twice in one object; send it once"
    column = format_value(name)
    raise invalid_request([Problem(None, None, column, "duplicate_key", None, message)])


def _check_table_names(sent: dict[str, Any]) -> None:
    unknown = [name for name in sent if name not in TABLES]
    if unknown:
        message = f"there is no such table; {did_you_mean(unknown[0][:40], TABLES)}"
        table = format_value(unknown[0])
        raise invalid_request([Problem(table, None, None, "known_table", None, message)])


def _to_columns(table: str, sent: Any) -> Columns:
    """The columns of a table that was sent in either form."""
    if sent is None:
        return {}
    if isinstance(sent, list):
        return _records_to_columns(table, sent)
    if isinstance(sent, dict):
        _check_columns(table, sent)
        return sent
    message = "send a list of records or an object of columns"
    raise invalid_request([table_problem(table, None, "table_form", message)])


def _records_to_columns(table: str, records: list[Any]) -> Columns:
    if not set(map(type, records)) <= {dict}:
        row = next(i for i, record in enumerate(records, 1) if type(record) is not dict)
        message = f"every row of {table} must be an object"
        value = format_value(records[row - 1])
        raise invalid_request([Problem(table, row, None, "record", value, message)])
    if columns := _transpose_uniform(records):
        return columns
    names = dict.fromkeys(name for record in records for name in record)
    if records and not names:
        message = required_columns_message(table)
        raise invalid_request([table_problem(table, None, "missing_column", message)])
    return {name: [record.get(name) for record in records] for name in names}


def _transpose_uniform(records: list[dict[str, Any]]) -> Columns | None:
    """The columns of records that all have the first one's keys, the usual case; else None."""
    names = list(records[0]) if records else []
    if len(names) < 2 or set(map(len, records)) != {len(names)}:
        return None
    try:
        columns = zip(*map(itemgetter(*names), records), strict=True)
        return dict(zip(names, map(list, columns), strict=True))
    except KeyError:
        return None


def _check_columns(table: str, columns: dict[str, Any]) -> None:
    for name, values in columns.items():
        if not isinstance(values, list):
            message = "a column must be a list of values"
            raise invalid_request([table_problem(table, name, "column_form", message)])
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = list(lengths.items())[:_MAX_LISTED_COLUMNS]
        text = ", ".join(f"{format_value(name)} {length}" for name, length in listed)
        message = f"the columns of {table} differ in length: {text}"
        raise invalid_request([table_problem(table, None, "column_lengths", message)])


def _check_size(request: ParsedRequest, limits: Limits) -> None:
    stays = request.row_counts["stays"]
    if request.rows > limits.rows:
        raise _too_many("rows", request.rows, limits.rows)
    if stays > limits.stays:
        raise _too_many("stays", stays, limits.stays)
    if stays == 0:
        problem = table_problem("stays", None, "stays_required", "send at least one stay")
        raise invalid_request([problem])


def _too_many(noun: str, count: int, limit: int) -> RequestRejected:
    message = f"{count} {noun} in one request; at most {limit} are accepted: send several requests"
    return RequestRejected(413, f"too_many_{noun}", message)
