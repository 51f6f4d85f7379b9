from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pandas as pd
import polars as pl
import pytest

from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.errors import CheckFailed
from flowsheet.prediction.input_rows import COLUMNS, example_tables, from_rows, to_rows


@pytest.fixture
def rows():
    return to_rows(example_tables())


def assert_same_tables(actual: Tables, expected: Tables) -> None:
    """Equal but for ``subject_id``, which is not sent: every stay is its own subject."""
    stays = expected.stays.with_columns(subject_id="stay_id")
    assert actual.stays.equals(stays)
    for name in ("events", "treatments", "episodes"):
        assert getattr(actual, name).equals(getattr(expected, name)), name


def test_tables_pass_unchanged(tables):
    assert_same_tables(from_rows(to_rows(tables)), tables)
    assert_same_tables(from_rows(to_rows(example_tables())), example_tables())


@pytest.mark.parametrize("orient", ["records", "split"])
def test_tables_pass_as_json_unchanged(tables, orient):
    sent = json.loads(to_rows(tables).to_json(orient=orient, double_precision=15))
    rows = pd.DataFrame(**sent) if orient == "split" else pd.DataFrame(sent)
    assert_same_tables(from_rows(rows), tables)


def with_episode_of(response):
    tables = example_tables()
    onset = tables.stays["admitted_at"][0] + timedelta(hours=5)
    episode = {"stay_id": 1, "response": response, "onset": onset, "known_at": onset}
    return to_rows(replace(tables, episodes=pl.DataFrame([episode], schema=TABLES["episodes"])))


@pytest.mark.parametrize("response", ["sepsiss", "Sepsis", "akki"])
def test_a_misspelt_response_is_refused_and_not_ignored(response):
    with pytest.raises(CheckFailed, match=f'episodes, response = "?{response}'):
        from_rows(with_episode_of(response), "sepsis")


@pytest.mark.parametrize("response", ["aki", "own_outcome", None])
def test_registered_responses_and_that_of_the_model_are_accepted(response):
    tables = from_rows(with_episode_of(response), "own_outcome")
    assert tables.episodes["response"].to_list() == [response]


def test_no_subject_id_is_required(rows):
    assert "subject_id" not in COLUMNS
    assert "subject_id" not in rows


def test_empty_columns_may_be_left_out(rows):
    slim = rows.dropna(axis="columns", how="all")
    assert len(slim.columns) < len(rows.columns)
    assert_same_tables(from_rows(slim), example_tables())


def test_no_rows_give_empty_tables(rows):
    tables = from_rows(rows.head(0))
    assert all(getattr(tables, name).is_empty() for name in TABLES)


def test_times_may_lack_seconds(rows):
    without_seconds = rows["time"].str[:16]
    is_whole = rows["time"].isna() | (rows.index % 2 == 0)
    rows["time"] = rows["time"].where(is_whole, without_seconds)
    assert_same_tables(from_rows(rows), example_tables())


def test_times_may_be_pandas_timestamps(rows):
    for name, kind in COLUMNS.items():
        if kind == pl.Datetime("us"):
            rows[name] = pd.to_datetime(rows[name], format="ISO8601")
    assert_same_tables(from_rows(rows), example_tables())


def test_ids_may_be_stored_as_floats(rows):
    rows["stay_id"] = rows["stay_id"].astype(float)
    assert_same_tables(from_rows(rows), example_tables())


def test_an_open_stay_ends_with_its_latest_fact(rows):
    rows["discharged_at"] = None
    stays = from_rows(rows).stays
    first, second = example_tables().stays["admitted_at"]
    ends = [first + timedelta(hours=27), second + timedelta(hours=2)]
    assert stays["discharged_at"].to_list() == ends


def test_an_open_stay_without_facts_has_no_step_yet(rows):
    stays = from_rows(rows[rows["table"] == "stays"].assign(discharged_at=None)).stays
    assert stays["discharged_at"].to_list() == stays["admitted_at"].to_list()


@pytest.mark.parametrize(
    ("change", "message", "where"),
    [
        (lambda r: r.assign(table="event"), "there is no table 'event'", "row 0, table"),
        (lambda r: r.assign(table=None), "there is no table None", "row 0, table"),
        (
            lambda r: r.assign(time="yesterday"),
            "events, time = yesterday: time: give ISO 8601 text",
            "row 2, time",
        ),
        (
            lambda r: r.assign(value="high"),
            "value must be a number, not high",
            "row 2, value",
        ),
        (
            lambda r: r.assign(stay_id=r["stay_id"] + 0.5),
            "stay_id must be a whole number of 64 bits, not 1.5",
            "row 0, stay_id",
        ),
        (
            lambda r: r.assign(admitted_at="2000-01-01T00:00:00Z"),
            "without a time zone",
            "row 0, admitted_at",
        ),
        (
            lambda r: r.assign(admitted_at=pd.Timestamp("2000-01-01", tz="UTC")),
            "without a time zone",
            "row 0, admitted_at",
        ),
        (
            lambda r: r.drop(columns="known_at"),
            "events needs stay_id, time, known_at, variable, value",
            "row 2, known_at",
        ),
        (
            lambda r: r.assign(value=r["value"].where(r.index != 3)),
            "events, value = None: not null: a value is required",
            "row 3, value",
        ),
        (
            lambda r: r.assign(stay_id=None),
            "stays, stay_id = None: not null: a value is required",
            "row 0, stay_id",
        ),
        (
            lambda r: pd.concat([r, r], ignore_index=True),
            "stays, stay_id = 1: duplicate: the same row was sent before",
            "row 7, stay_id",
        ),
        (
            lambda r: r[r["table"] != "stays"],
            "events, stay_id = 1: known stay: send the stay's row",
            "row 0, stay_id",
        ),
        (
            lambda r: r.assign(value=[1, 1, 1, "a", *[1] * (len(r) - 4)]),
            "value must be a number, not a",
            "row 3, value",
        ),
    ],
)
def test_a_wrong_row_is_named_with_its_column(rows, change, message, where):
    with pytest.raises(CheckFailed, match=message) as caught:
        from_rows(change(rows))
    assert caught.value.where == where
