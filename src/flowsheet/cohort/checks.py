"""The contract's rules as pandera models over eager polars frames; every failure is gathered.

A table is checked twice. Its *shape* (columns, order, types) comes first; only a table of the right
shape has values that mean anything. Its *rules* then look at every row, together with what the
row's stay and the catalogue say of it.
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


def shape(table: str) -> pa.DataFrameSchema:
    """Columns, order and types of a table, for pandera."""
    columns = {name: pa.Column(dtype, nullable=True) for name, dtype in TABLES[table].items()}
    return pa.DataFrameSchema(columns, name=table, strict=True, ordered=True)


def values(table: str, rules: list[Rule] | None = None) -> pa.DataFrameSchema:
    """The rules for the rows of a table (by default all), over the table and its context."""
    return pa.DataFrameSchema(checks=[_check(rule) for rule in rules or RULES[table]], name=table)


def _check(rule: Rule) -> pa.Check:
    """The rule as pandera knows it. One failure case is enough for its message; all are in its output."""

    def kept(data: Any) -> pl.LazyFrame:
        frame: pl.LazyFrame = data.lazyframe
        return frame.select(rule.good)

    return pa.Check(kept, name=rule.name, title=rule.column, n_failure_cases=1)


def find_failures(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Every way in which the tables break the contract, one line each; columns as in ``FAILURES``.

    A table may be absent; without usable stays, only the shape of the others can be judged.
    """
    found = {name: find_shape_failures(name, frame) for name, frame in tables.items()}
    sound = {name: tables[name] for name, broken in found.items() if broken.is_empty()}
    lines = list(found.values())
    if "stays" in sound:
        for name, frame in sound.items():
            lines += [
                find_value_failures(name, frame, sound["stays"]),
                find_order_failures(name, frame),
            ]
        if "events" in sound:
            lines.append(find_stays_without_events(sound["stays"], sound["events"]))
    return pl.concat([_lines([]), *lines])


def find_shape_failures(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Missing, extra and misplaced columns, and columns of the wrong type."""
    if list(frame.schema.items()) == list(TABLES[table].items()):
        return _lines([])  # what pandera would say, sooner
    try:
        shape(table).validate(frame, lazy=True)
    except SchemaErrors as errors:
        return _lines([_misshape(table, frame, error) for error in errors.schema_errors])
    return _lines([])


def find_value_failures(
    table: str, frame: pl.DataFrame, stays: pl.DataFrame, *, apart: bool | None = None
) -> pl.DataFrame:
    """Rows of a well-shaped table that break a rule; ``apart``: as in :func:`flowsheet.cohort.rules.applicable_rules`."""
    rules, context = applicable_rules(table, frame, apart=apart), add_context(table, frame, stays)
    if all(
        context.select(
            rule.good.fill_null(True).all().alias(str(i)) for i, rule in enumerate(rules)
        ).row(0)
    ):
        return _lines([])  # what pandera would say, sooner
    try:
        values(table, rules).validate(
            clip_to_calendar(context), lazy=True
        )  # pandera shows a row in Python's own times
    except SchemaErrors as errors:
        return pl.concat(_broken(table, frame, error) for error in errors.schema_errors)
    return _lines([])


def find_stays_without_events(stays: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Stays of which nothing was ever measured."""
    bad = stays.select(~pl.col("stay_id").is_in(events["stay_id"].unique().implode())).to_series()
    return list_failures("stays", stays, bad.fill_null(value=False), "stay_id", WITHOUT_EVENTS)


def find_order_failures(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows that stand before a row which the contract's order puts first."""
    before: pl.Expr = pl.lit(value=False)
    for key in reversed(SORT_KEYS[table]):
        now, last = pl.col(key), pl.col(key).shift(1)
        before = (now < last) | ((now == last) & before)
    bad = frame.select(before.fill_null(value=False)).to_series()
    return list_failures(table, frame, bad, SORT_KEYS[table][0], "sorted")


def _broken(table: str, frame: pl.DataFrame, error: Any) -> pl.DataFrame:
    if error.check_output is None:
        raise error
    bad = error.check_output.to_series().fill_null(value=True).not_()
    return list_failures(table, frame, bad, error.check.title, error.check.name)


_SHAPES = {
    "COLUMN_NOT_IN_DATAFRAME": "missing_column",
    "COLUMN_NOT_IN_SCHEMA": "extra_column",
    "COLUMN_NOT_ORDERED": "column_order",
    "WRONG_DATATYPE": "column_type",
}


def _misshape(table: str, frame: pl.DataFrame, error: Any) -> dict[str, Any]:
    rule = _SHAPES.get(error.reason_code.name, "shape")
    if rule != "column_type":
        return {"table": table, "column": str(error.failure_cases), "rule": rule}
    column = error.schema.name
    value = f"{frame.schema[column]}, not {TABLES[table][column]}"
    return {"table": table, "column": column, "rule": rule, "value": value}


def _lines(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=FAILURES)


def rule_names() -> set[str]:
    """The names of all rules about rows."""
    return {rule.name for rules in RULES.values() for rule in rules} | {WITHOUT_EVENTS}
