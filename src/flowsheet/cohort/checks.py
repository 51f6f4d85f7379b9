"""The contract's rules as pandera models over eager polars frames; all failures are collected.

A table is checked in two steps. First its *shape* (columns, order, types): the values of a table of
the wrong shape cannot be checked. Then its *rules*, on every row, together with the row's stay and
the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from flowsheet.cohort.rules import (
    FAILURES,
    RULES,
    WITHOUT_EVENTS,
    Rule,
    add_context,
    applicable_rules,
    clip_to_calendar,
    key_text,
    list_failures,
)
from flowsheet.cohort.schema import SORT_KEYS, TABLES

__all__ = [
    "FAILURES",
    "RULES",
    "find_failures",
    "find_value_failures",
    "key_text",
    "list_failures",
    "rule_names",
]


def shape_schema(table: str) -> pa.DataFrameSchema:
    """Columns, order and types of a table, as a pandera schema."""
    columns = {name: pa.Column(dtype, nullable=True) for name, dtype in TABLES[table].items()}
    return pa.DataFrameSchema(columns, name=table, strict=True, ordered=True)


def rules_schema(table: str, rules: list[Rule] | None = None) -> pa.DataFrameSchema:
    """The rules for the rows of a table (default: all), for the table with its context."""
    checks = [_as_check(rule) for rule in rules or RULES[table]]
    return pa.DataFrameSchema(checks=checks, name=table)


def _as_check(rule: Rule) -> pa.Check:
    """The rule as a pandera check.

    pandera needs only one failure case, for its message; the check's output has all of them.
    """

    def is_good(data: Any) -> pl.LazyFrame:
        frame: pl.LazyFrame = data.lazyframe
        return frame.select(rule.good)

    return pa.Check(is_good, name=rule.name, title=rule.column, n_failure_cases=1)


def find_failures(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Every violation of the contract, one row each; columns as in ``FAILURES``.

    Tables may be missing. Without a well-shaped table of stays, only the shapes of the other
    tables are checked.
    """
    failures = {name: find_shape_failures(name, frame) for name, frame in tables.items()}
    well_shaped = {name: tables[name] for name, rows in failures.items() if rows.is_empty()}
    parts = [pl.DataFrame(schema=FAILURES), *failures.values()]
    if "stays" in well_shaped:
        stays = well_shaped["stays"]
        for name, frame in well_shaped.items():
            parts.append(find_value_failures(name, frame, stays))
            parts.append(find_order_failures(name, frame))
        if "events" in well_shaped:
            parts.append(find_stays_without_events(stays, well_shaped["events"]))
    return pl.concat(parts)


def find_shape_failures(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Missing, extra and misplaced columns, and columns of the wrong type."""
    if list(frame.schema.items()) == list(TABLES[table].items()):
        return pl.DataFrame(schema=FAILURES)  # the same answer as pandera's, but faster
    try:
        shape_schema(table).validate(frame, lazy=True)
    except SchemaErrors as errors:
        rows = [_describe_shape_error(table, frame, error) for error in errors.schema_errors]
        return pl.DataFrame(rows, schema=FAILURES)
    return pl.DataFrame(schema=FAILURES)


def find_value_failures(
    table: str, frame: pl.DataFrame, stays: pl.DataFrame, *, sorted_unique: bool | None = None
) -> pl.DataFrame:
    """Rows of a well-shaped table that break a rule, found by pandera.

    Args:
        table: The table's name.
        frame: Its rows.
        stays: The stays that the rows belong to.
        sorted_unique: The result of :func:`flowsheet.cohort.rules.is_sorted_unique`, if known.

    Returns:
        One row per failure; columns as in ``FAILURES``.
    """
    rules = applicable_rules(table, frame, sorted_unique=sorted_unique)
    context = add_context(table, frame, stays)
    all_good = context.select(
        rule.good.fill_null(True).all().alias(str(i)) for i, rule in enumerate(rules)
    )
    if all(all_good.row(0)):
        return pl.DataFrame(schema=FAILURES)  # the same answer as pandera's, but faster
    try:
        # pandera shows rows as Python objects, which cannot hold every time of polars.
        rules_schema(table, rules).validate(clip_to_calendar(context), lazy=True)
    except SchemaErrors as errors:
        return pl.concat(_rows_of_error(table, frame, error) for error in errors.schema_errors)
    return pl.DataFrame(schema=FAILURES)


def find_stays_without_events(stays: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Stays that have no measurement."""
    bad = stays.select(~pl.col("stay_id").is_in(events["stay_id"].unique().implode())).to_series()
    return list_failures("stays", stays, bad.fill_null(value=False), "stay_id", WITHOUT_EVENTS)


def find_order_failures(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows that should come before the row above them."""
    misplaced: pl.Expr = pl.lit(value=False)
    for key in reversed(SORT_KEYS[table]):
        current, previous = pl.col(key), pl.col(key).shift(1)
        misplaced = (current < previous) | ((current == previous) & misplaced)
    bad = frame.select(misplaced.fill_null(value=False)).to_series()
    return list_failures(table, frame, bad, SORT_KEYS[table][0], "sorted")


def _rows_of_error(table: str, frame: pl.DataFrame, error: Any) -> pl.DataFrame:
    if error.check_output is None:
        raise error
    bad = error.check_output.to_series().fill_null(value=True).not_()
    return list_failures(table, frame, bad, error.check.title, error.check.name)


_SHAPE_RULES = {
    "COLUMN_NOT_IN_DATAFRAME": "missing_column",
    "COLUMN_NOT_IN_SCHEMA": "extra_column",
    "COLUMN_NOT_ORDERED": "column_order",
    "WRONG_DATATYPE": "column_type",
}


def _describe_shape_error(table: str, frame: pl.DataFrame, error: Any) -> dict[str, Any]:
    rule = _SHAPE_RULES.get(error.reason_code.name, "shape")
    if rule != "column_type":
        return {"table": table, "column": str(error.failure_cases), "rule": rule}
    column = error.schema.name
    value = f"{frame.schema[column]}, not {TABLES[table][column]}"
    return {"table": table, "column": column, "rule": rule, "value": value}


def rule_names() -> set[str]:
    """The names of all rules about rows."""
    names = {rule.name for rules in RULES.values() for rule in rules}
    return names | {WITHOUT_EVENTS}
