from __future__ import annotations

import json
from datetime import timedelta

import pandas as pd
import polars as pl
import pytest

from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.errors import CheckFailed
from flowsheet.prediction.input_rows import (
    COLUMNS,
    example_tables,
    from_rows,
    to_rows,
)


@pytest.fixture
def rows():
    return to_rows(example_tables())


def parts(tables: Tables) -> dict[str, pl.DataFrame]:
    return {name: getattr(tables, name) for name in TABLES}


def same(got: Tables, wanted: Tables) -> bool:
    omitted = parts(wanted) | {"stays": wanted.stays.with_columns(subject_id="stay_id")}
    return all(frame.equals(omitted[name]) for name, frame in parts(got).items())


def test_tables_pass_the_door_unchanged(tables):
    assert same(from_rows(to_rows(tables)), tables)
    assert same(from_rows(to_rows(example_tables())), example_tables())


def test_tables_pass_as_json(tables):
    for orient in ("records", "split"):
        text = to_rows(tables).to_json(orient=orient, double_precision=15)
        told = json.loads(text)
        frame = (
            pd.DataFrame(told)
            if orient == "records"
            else pd.DataFrame(told["data"], columns=told["columns"])
        )
        assert same(from_rows(frame), tables)


def test_no_subject_is_asked_for(rows):
    assert "subject_id" not in COLUMNS
    assert "subject_id" not in rows


def test_columns_that_are_empty_may_be_left_out(rows):
    slim = rows.dropna(axis="columns", how="all")
    assert len(slim.columns) < len(rows.columns)
    assert same(from_rows(slim.sample(frac=1, random_state=0).sort_index()), example_tables())


def test_times_of_any_iso_shape_are_read(rows):
    rows["time"] = rows["time"].where(
        rows["time"].isna() | (rows.index % 2 == 0), rows["time"].str[:16]
    )
    assert same(from_rows(rows), example_tables())


def test_a_stay_that_goes_on_ends_with_the_latest_fact(rows):
    rows["discharged_at"] = None
    stays = from_rows(rows).stays
    admitted = example_tables().stays["admitted_at"]
    assert stays["discharged_at"].to_list() == [
        admitted[0] + timedelta(hours=27),
        admitted[1] + timedelta(hours=2),
    ]


def test_a_stay_without_facts_has_no_step_yet(rows):
    rows = rows[rows["table"] == "stays"].assign(discharged_at=None)
    stays = from_rows(rows).stays
    assert stays["discharged_at"].equals(stays["admitted_at"].alias("discharged_at"))


@pytest.mark.parametrize(
    ("change", "what", "where"),
    [
        (lambda r: r.assign(table="event"), "'event' is no table", "row 0, table"),
        (lambda r: r.assign(table=None), "is no table", "row 0, table"),
        (lambda r: r.assign(time="yesterday"), "'yesterday' cannot be read as time", "row 0, time"),
        (lambda r: r.assign(value="high"), "'high' cannot be read as value", "row 0, value"),
        (lambda r: r.assign(admitted_at="2000-01-01T00:00:00Z"), "time zone", "admitted_at"),
        (
            lambda r: r.drop(columns="known_at"),
            "4 rows of events have no known_at",
            "row 2, known_at",
        ),
        (lambda r: r.assign(stay_id=None), "2 rows of stays have no stay_id", "row 0, stay_id"),
        (lambda r: pd.concat([r, r]), "a stay is told twice", "stays, stay 1"),
        (
            lambda r: r[r["table"] != "stays"],
            "4 rows of events belong to no stay",
            "events, stay 1",
        ),
        (lambda r: r.assign(value=[1, "a", *[None] * (len(r) - 2)]), "several kinds", "value"),
    ],
)
def test_what_cannot_be_read_is_said(rows, change, what, where):
    with pytest.raises(CheckFailed, match=what) as caught:
        from_rows(change(rows))
    assert caught.value.where == where
