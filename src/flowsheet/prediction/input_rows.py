"""The extract's tables as rows of one long table, as MLflow's scoring API carries them.

Each row names its ``table`` and fills that table's columns; the others are null. Times are ISO 8601
text without a time zone, as in the contract. ``discharged_at`` may be left out for a stay that has
not ended: its record then ends with its latest ``known_at``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from flowsheet.cohort.rules import DUPLICATE
from flowsheet.cohort.schema import OUTCOME_COLUMNS, TABLES, TIME, Tables, empty_table
from flowsheet.errors import CheckFailed, did_you_mean
from flowsheet.prediction.errors import Problem, format_value
from flowsheet.prediction.parsed_request import Columns, ParsedRequest, find_column_problems
from flowsheet.prediction.request_batch import text_table
from flowsheet.prediction.request_checks import (
    end_open_stays,
    explain,
    find_request_failures,
    find_unknown_responses,
    parse_tables,
)
from flowsheet.typing import Ints

if TYPE_CHECKING:
    import pandas as pd

_OMITTED = {
    "subject_id",
    *OUTCOME_COLUMNS,
}  # no input of a prediction, and what is not sent cannot leak

COLUMNS: dict[str, pl.DataType] = {
    "table": pl.String(),
    **{
        name: kind
        for table in TABLES.values()
        for name, kind in table.items()
        if name not in _OMITTED
    },
}
"""Columns of the long table, with the contract's types."""


def to_rows(tables: Tables) -> pd.DataFrame:
    """The long table of these tables."""
    parts = [pl.DataFrame(schema=COLUMNS)]
    for name in TABLES:
        rows: pl.DataFrame = getattr(tables, name)
        parts.append(rows.select(pl.lit(name).alias("table"), pl.exclude(_OMITTED)))
    long = pl.concat(parts, how="diagonal")
    return long.with_columns(pl.col(TIME).dt.to_string("iso:strict")).to_pandas()


def from_rows(rows: pd.DataFrame, response: str | None = None) -> Tables:
    """The tables that a long table holds.

    Columns and types obey the rules of a JSON request. Of the contract's rules only those are
    applied without which no windows can be built: required values, known stays, no stay twice;
    and a response is a registered one, or ``response``, which the model predicts.

    Raises:
        CheckFailed: a row has no known table, stay or response, lacks a value, or has a value of a
            wrong type; or a stay is sent twice.
    """
    positions = _group_by_table(rows)
    request = ParsedRequest.from_tables(
        {table: _to_columns(rows, table, positions) for table in TABLES}
    )
    if problems := find_column_problems(request.tables):
        raise _column_error(problems[0], positions)
    tables, failures = parse_tables({table: text_table([request], table) for table in TABLES})
    if tables is None:
        raise _row_error(failures, request, positions)
    tables = replace(tables, stays=end_open_stays(tables))
    failures = _find_structural_failures(tables, response)
    if failures.height:
        raise _row_error(failures, request, positions)
    return tables


def example_tables() -> Tables:
    """Two invented stays: what a request looks like."""
    admission = datetime(2000, 1, 1, 8)

    def at(hours: float) -> datetime:
        return admission + timedelta(hours=hours)

    def event(stay: int, hours: float, variable: str, value: float) -> dict[str, Any]:
        times = {"time": at(hours), "known_at": at(hours)}
        return {"stay_id": stay, **times, "variable": variable, "value": value}

    first = {"stay_id": 1, "admitted_at": at(0), "discharged_at": at(50), "age": 67.0, "sex": "F"}
    second = {"stay_id": 2, "admitted_at": at(1), "discharged_at": at(31), "age": 48.0, "sex": "M"}
    events = [
        event(1, 1, "hr", 92.0),
        event(1, 26, "hr", 118.0),
        event(1, 26.5, "temp", 38.9),
        event(2, 3, "hr", 74.0),
    ]
    times = {"start": at(27), "end": at(40), "known_at": at(27)}
    dose = {"stay_id": 1, "drug": "norepinephrine", **times, "dose": 4.0, "unit": "mcg/kg"}
    return Tables(
        pl.DataFrame([{**first, "unit": "MICU"}, second], schema=TABLES["stays"]),
        pl.DataFrame(events, schema=TABLES["events"]),
        pl.DataFrame([dose], schema=TABLES["treatments"]),
        empty_table("episodes"),
    )


def _group_by_table(rows: pd.DataFrame) -> dict[str, Ints]:
    """{table: positions of its rows in the long table}."""
    names = rows["table"].to_numpy(object) if "table" in rows else [None] * len(rows)
    for position, name in enumerate(names):
        if name not in TABLES:
            raise CheckFailed(
                f"there is no table {name!r}",
                f"row {position}, table",
                did_you_mean(str(name), TABLES),
            )
    table = pl.Series(list(names), dtype=pl.String)
    return {name: (table == name).arg_true().to_numpy().astype(int) for name in TABLES}


def _to_columns(rows: pd.DataFrame, table: str, positions: Mapping[str, Ints]) -> Columns:
    """The columns of one table as a JSON body would hold them."""
    own_rows = rows.iloc[positions[table]]
    return {
        name: _plain_values(own_rows[name], kind)
        for name, kind in TABLES[table].items()
        if name in rows and name not in _OMITTED
    }


def _plain_values(column: pd.Series[Any], kind: pl.DataType) -> list[Any]:
    """The values as JSON would carry them: missing as None, times as text."""
    if column.dtype.kind == "M":
        column = column.map(lambda time: time.isoformat(), na_action="ignore")
    elif kind == pl.Int64() and column.dtype.kind == "f" and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")  # pandas stores whole numbers beside nulls as floats
    values: list[Any] = column.astype(object).where(column.notna(), None).tolist()
    return values


def _column_error(problem: Problem, positions: Mapping[str, Ints]) -> CheckFailed:
    """The error for a missing column, or for a value of a wrong type."""
    position = positions[str(problem.table)][(problem.row or 1) - 1]
    value = f", not {problem.value}" if problem.row else ""
    return CheckFailed(f"{problem.message}{value}", f"row {position}, {problem.column}")


def _find_structural_failures(tables: Tables, response: str | None) -> pl.DataFrame:
    failures = pl.concat(
        find_request_failures(table, getattr(tables, table), tables.stays) for table in TABLES
    )
    rule = pl.col("rule")
    is_repeated_stay = (rule == DUPLICATE) & (pl.col("table") == "stays")
    structural = failures.filter(
        rule.is_in(["not_null", "known_stay", "response_name"]) | is_repeated_stay
    )
    return pl.concat([structural, find_unknown_responses(tables.episodes, response)])


def _row_error(
    failures: pl.DataFrame, request: ParsedRequest, positions: Mapping[str, Ints]
) -> CheckFailed:
    """The error for the first row that breaks a rule."""
    failure = failures.row(0, named=True)
    table, column, row = failure["table"], failure["column"], failure["row"] - 1
    sent = request.tables[table].get(column)
    value = format_value(sent[row] if sent else None)
    return CheckFailed(
        f"{table}, {column} = {value}: {explain(failure['rule'], value)}",
        f"row {positions[table][row]}, {column}",
    )
