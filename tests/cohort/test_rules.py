"""The rules without pandera, and the conditions under which a rule is skipped."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.cohort.checks import find_value_failures
from flowsheet.cohort.rules import find_row_failures, is_sorted_unique
from flowsheet.cohort.schema import TABLES, TIME, UNIQUE_KEYS
from flowsheet.testing.tables import random_tables

UNUSUAL = {
    pl.Int64(): [None, -1, 1, 2],
    pl.Boolean(): [None, False, True],
    pl.Float64(): [None, float("nan"), float("inf"), -1e9, 1e9, 0.0],
    pl.String(): [None, "", "hr", "no such thing"],
    TIME: [None, dt.datetime(1900, 1, 1), dt.datetime(2000, 1, 2), dt.datetime(2200, 1, 1)],
}


def change_some_cells(data, table, frame):
    """The rows with unusual values in some cells, and perhaps a repeated row."""
    for _ in range(data.draw(st.integers(0, 4))):
        column = data.draw(st.sampled_from(frame.columns))
        dtype = TABLES[table][column]
        values = frame[column].to_list()
        row = data.draw(st.integers(0, len(values) - 1))
        values[row] = data.draw(st.sampled_from(UNUSUAL[dtype]))
        frame = frame.with_columns(pl.Series(column, values, dtype))
    return pl.concat([frame, frame.head(data.draw(st.integers(0, 1)))])


@pytest.mark.parametrize("table", list(TABLES))
@settings(deadline=None, max_examples=50)
@given(tables=random_tables(), data=st.data())
def test_find_row_failures_agrees_with_pandera(table, tables, data):
    frame = getattr(tables, table)
    if frame.height:
        frame = change_some_cells(data, table, frame)
    stays = frame if table == "stays" else tables.stays
    failures = find_row_failures(table, frame, stays)
    by_pandera = find_value_failures(table, frame, stays)
    assert failures.equals(by_pandera)
    assert failures.schema == by_pandera.schema


@pytest.mark.parametrize("table", list(TABLES))
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_is_sorted_unique_is_true_exactly_for_sorted_unique_rows(table, data):
    schema = {key: TABLES[table][key] for key in UNIQUE_KEYS[table]}
    values = {key: st.sampled_from(UNUSUAL[dtype]) for key, dtype in schema.items()}
    rows = pl.DataFrame(
        data.draw(st.lists(st.fixed_dictionaries(values), max_size=6)), schema=schema
    )
    sorted_unique = rows.unique().sort(list(schema))
    assert is_sorted_unique(table, sorted_unique)
    assert is_sorted_unique(table, rows) == rows.equals(sorted_unique)
