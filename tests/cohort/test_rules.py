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

ODD = {
    pl.Int64(): [None, -1, 1, 2],
    pl.Float64(): [None, float("nan"), float("inf"), -1e9, 1e9, 0.0],
    pl.String(): [None, "", "hr", "no such thing"],
    TIME: [None, dt.datetime(1900, 1, 1), dt.datetime(2000, 1, 2), dt.datetime(2200, 1, 1)],
}


@pytest.mark.parametrize("table", list(TABLES))
@settings(deadline=None, max_examples=50)
@given(tables=random_tables(), data=st.data())
def test_plain_rules_find_what_pandera_finds(table, tables, data):
    frame = getattr(tables, table)
    if frame.height:
        for _ in range(data.draw(st.integers(0, 4))):
            column = data.draw(st.sampled_from(frame.columns))
            values = frame[column].to_list()
            values[data.draw(st.integers(0, len(values) - 1))] = data.draw(
                st.sampled_from(ODD[TABLES[table][column]])
            )
            frame = frame.with_columns(pl.Series(column, values, TABLES[table][column]))
        frame = pl.concat([frame, frame.head(data.draw(st.integers(0, 1)))])
    stays = frame if table == "stays" else tables.stays
    found, asked = find_row_failures(table, frame, stays), find_value_failures(table, frame, stays)
    assert found.equals(asked)
    assert found.schema == asked.schema


@pytest.mark.parametrize("table", list(TABLES))
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_rows_that_stand_apart_are_sorted_and_distinct(table, data):
    keys = UNIQUE_KEYS[table]
    cells = st.fixed_dictionaries({key: st.sampled_from(ODD[TABLES[table][key]]) for key in keys})
    rows = pl.DataFrame(
        data.draw(st.lists(cells, max_size=6)), {key: TABLES[table][key] for key in keys}
    )
    in_order = rows.unique().sort(keys)
    assert is_sorted_unique(table, in_order)
    assert is_sorted_unique(table, rows) == rows.equals(in_order)
