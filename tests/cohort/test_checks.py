"""Each rule of the contract finds the rows that break it, and no others."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.cohort import checks
from flowsheet.cohort.schema import EPISODES, EPOCH, EVENTS, STAYS, TABLES, TREATMENTS, Tables

HOUR = timedelta(hours=1)


def at(hours: float) -> datetime:
    return EPOCH + hours * HOUR


STAY = {
    "admitted_at": at(0),
    "discharged_at": at(48),
    "age": 60.0,
    "sex": "F",
    "height_cm": 170.0,
    "weight_kg": 70.0,
}


def valid_tables() -> Tables:
    stays = [
        {"stay_id": i, "subject_id": i, "observed_from": at(2) if i == 2 else None, **STAY}
        for i in (1, 2)
    ]
    events = [(i, at(h), at(h), v, 37.0) for i in (1, 2) for h in (3, 4) for v in ("temp", "wbc")]
    treatments = [
        (1, "vancomycin", at(1), at(1), at(1), 1000.0, "mg"),
        (2, "insulin", at(5), at(9), at(5), None, None),
    ]
    episodes = [
        (1, "sepsis", at(5), at(9), at(6), True),
        (1, "sepsis", at(9), at(12), at(12), False),
        (1, "sepsis", at(20), None, at(21), None),
    ]
    return Tables(
        pl.DataFrame(stays, schema=STAYS),
        pl.DataFrame(events, schema=EVENTS, orient="row"),
        pl.DataFrame(treatments, schema=TREATMENTS, orient="row"),
        pl.DataFrame(episodes, schema=EPISODES, orient="row"),
    )


def change_cells(tables: Tables, table: str, row: int, **cells: Any) -> Tables:
    """The tables with some cells of one row changed."""
    frame: pl.DataFrame = getattr(tables, table)
    is_row = pl.int_range(pl.len()) == row
    changes = [
        pl.when(is_row).then(pl.lit(value, frame.schema[column])).otherwise(column).alias(column)
        for column, value in cells.items()
    ]
    return replace(tables, **{table: frame.with_columns(changes)})


def broken_rules(tables: Tables) -> set[tuple[Any, ...]]:
    """(table, row, column, rule) of every failure."""
    failures = checks.find_failures(vars(tables))
    return set(failures.select("table", "row", "column", "rule").iter_rows())


def test_valid_tables_have_no_failures():
    assert checks.find_failures(vars(valid_tables())).is_empty()


VALUES = [
    ("stays", 0, {"subject_id": None}, "subject_id", "not_null"),
    ("stays", 0, {"discharged_at": None}, "discharged_at", "not_null"),
    ("stays", 1, {"stay_id": 1}, "stay_id", "duplicate"),
    ("stays", 0, {"discharged_at": at(0)}, "discharged_at", "admitted_before_discharged"),
    ("stays", 1, {"observed_from": at(-1)}, "observed_from", "observed_inside_stay"),
    ("stays", 1, {"observed_from": at(48)}, "observed_from", "observed_inside_stay"),
    ("stays", 0, {"hospital_admitted_at": at(25)}, "hospital_admitted_at", "hospital_before_stay"),
    ("stays", 0, {"died_at": at(-2)}, "died_at", "ends_with_death"),
    (
        "stays",
        0,
        {"comfort_measures_at": at(900)},
        "comfort_measures_at",
        "comfort_measures_after_admission",
    ),
    ("stays", 0, {"sex": "female"}, "sex", "known_sex"),
    ("stays", 0, {"age": -1.0}, "age", "plausible_range"),
    ("stays", 0, {"age": 300.0}, "age", "plausible_range"),
    ("stays", 0, {"height_cm": float("inf")}, "height_cm", "finite"),
    ("stays", 0, {"weight_kg": 0.0}, "weight_kg", "plausible_range"),
    ("events", 0, {"value": None}, "value", "not_null"),
    ("events", 0, {"known_at": None}, "known_at", "not_null"),
    ("events", 7, {"stay_id": 3}, "stay_id", "known_stay"),
    ("events", 0, {"variable": "heartrate"}, "variable", "known_variable"),
    ("events", 0, {"time": at(-24.1)}, "time", "inside_stay"),
    ("events", 7, {"time": at(72.1), "known_at": at(73)}, "time", "inside_stay"),
    ("events", 0, {"known_at": at(2.9)}, "known_at", "known_not_before_true"),
    ("events", 0, {"value": float("nan")}, "value", "finite"),
    ("events", 0, {"value": float("-inf")}, "value", "finite"),
    ("events", 0, {"value": 45.1}, "value", "plausible_range"),
    ("events", 0, {"value": 25.9}, "value", "plausible_range"),
    ("events", 1, {"variable": "temp"}, "variable", "duplicate"),
    ("treatments", 0, {"drug": "aqua"}, "drug", "known_drug"),
    ("treatments", 0, {"unit": "g"}, "unit", "known_unit"),
    ("treatments", 0, {"unit": None}, "unit", "unit_with_dose"),
    ("treatments", 0, {"stay_id": 0}, "stay_id", "known_stay"),
    ("treatments", 0, {"start": at(2)}, "end", "start_before_end"),
    ("treatments", 0, {"start": at(-30)}, "start", "inside_stay"),
    ("treatments", 1, {"end": at(80)}, "end", "inside_stay"),
    ("treatments", 0, {"dose": -1.0}, "dose", "not_negative"),
    ("treatments", 0, {"dose": float("nan")}, "dose", "finite"),
    ("treatments", 0, {"dose": 1e300}, "dose", "plausible_range"),
    ("episodes", 0, {"onset": None}, "onset", "not_null"),
    ("episodes", 2, {"stay_id": 7}, "stay_id", "known_stay"),
    ("episodes", 2, {"onset": at(80), "known_at": at(90)}, "onset", "inside_stay"),
    ("episodes", 2, {"end": at(19)}, "end", "onset_before_end"),
    ("episodes", 2, {"known_at": at(19)}, "known_at", "known_not_before_true"),
    ("episodes", 1, {"onset": at(8)}, "onset", "no_overlap"),
    ("episodes", 1, {"response": "Sepsis-3"}, "response", "response_name"),
    ("episodes", 1, {"onset": at(5)}, "onset", "duplicate"),
]


@pytest.mark.parametrize(("table", "row", "cells", "column", "rule"), VALUES)
def test_a_broken_rule_is_found_in_its_row(
    table: str, row: int, cells: dict[str, Any], column: str, rule: str
):
    assert (table, row + 1, column, rule) in broken_rules(
        change_cells(valid_tables(), table, row, **cells)
    )


def test_every_rule_has_a_case_above():
    tested = {(table, rule) for table, _, _, _, rule in VALUES}
    rules = {(table, rule.name) for table, rules in checks.RULES.items() for rule in rules}
    # not_null is the same rule in all tables; duplicate treatments have their own test below.
    assert rules - tested == {("treatments", "not_null"), ("treatments", "duplicate")}


def test_facts_within_the_tolerance_belong_to_the_stay():
    tables = change_cells(valid_tables(), "events", 0, time=at(-24))
    assert broken_rules(change_cells(tables, "events", 7, time=at(72), known_at=at(500))) == set()


def test_an_episode_without_an_end_allows_no_later_one():
    assert ("episodes", 3, "onset", "no_overlap") in broken_rules(
        change_cells(valid_tables(), "episodes", 1, end=None)
    )


def test_episodes_of_different_responses_may_overlap():
    tables = change_cells(valid_tables(), "episodes", 0, end=None, response="aki")
    assert broken_rules(tables) == set()


def test_a_death_may_be_long_after_the_stay():
    tables = change_cells(valid_tables(), "stays", 0, died_at=at(300))
    death = {"response": "death", "onset": at(300), "known_at": at(300)}
    late = change_cells(tables, "episodes", 2, **death)
    assert broken_rules(replace(late, episodes=late.episodes[2:])) == set()


def test_a_duplicate_treatment_is_found():
    tables = valid_tables()
    twice = pl.concat([tables.treatments[:1], tables.treatments])
    assert broken_rules(replace(tables, treatments=twice)) == {
        ("treatments", 2, "drug", "duplicate")
    }


def test_rows_out_of_order_are_found():
    tables = valid_tables()
    assert ("events", 2, "stay_id", "sorted") in broken_rules(
        replace(tables, events=tables.events.reverse()[3:5])
    )


def test_a_stay_without_events_is_found():
    tables = valid_tables()
    assert broken_rules(replace(tables, events=tables.events.filter(stay_id=1))) == {
        ("stays", 2, "stay_id", "stay_without_events")
    }


def test_failures_have_the_key_and_the_value():
    line = checks.find_failures(vars(change_cells(valid_tables(), "events", 5, value=5000.0))).row(
        0, named=True
    )
    assert line["key"] == "stay 2, 2000-01-01 03:00:00, wbc"
    assert (line["value"], line["row"]) == ("5000.0", 6)


def test_all_failures_are_collected():
    tables = change_cells(valid_tables(), "stays", 0, sex="x", age=-4.0)
    tables = change_cells(tables, "events", 0, value=5000.0, known_at=at(0))
    tables = change_cells(tables, "episodes", 2, known_at=None)
    assert len(broken_rules(tables)) == 5


SHAPES = [
    (lambda f: f.drop("value"), "value", "missing_column"),
    (lambda f: f.with_columns(mood=1), "mood", "extra_column"),
    (lambda f: f.select(reversed(f.columns)), "value", "column_order"),
    (lambda f: f.with_columns(pl.col("value").cast(pl.Float32)), "value", "column_type"),
    (lambda f: f.with_columns(pl.col("value").cast(pl.String)), "value", "column_type"),
    (lambda f: f.with_columns(pl.col("time").dt.replace_time_zone("UTC")), "time", "column_type"),
    (lambda f: f.with_columns(pl.col("time").dt.cast_time_unit("ms")), "time", "column_type"),
    (lambda f: f.with_columns(pl.col("time").cast(pl.String)), "time", "column_type"),
    (lambda f: f.with_columns(pl.col("variable").cast(pl.Categorical)), "variable", "column_type"),
    (lambda f: f.with_columns(pl.col("stay_id").cast(pl.Int32)), "stay_id", "column_type"),
    (lambda f: f.with_columns(pl.lit(None).alias("variable")), "variable", "column_type"),
]


@pytest.mark.parametrize(("change", "column", "rule"), SHAPES)
def test_a_wrong_shape_is_named(change, column: str, rule: str):
    tables = valid_tables()
    assert ("events", None, column, rule) in broken_rules(
        replace(tables, events=change(tables.events))
    )


def test_without_valid_stays_the_shapes_of_the_other_tables_are_checked():
    tables = valid_tables()
    broken = replace(tables, stays=tables.stays.drop("age"), events=tables.events.drop("value"))
    assert broken_rules(broken) == {
        ("stays", None, "age", "missing_column"),
        ("events", None, "value", "missing_column"),
    }


@given(
    table=st.sampled_from(sorted(TABLES)),
    row=st.integers(0, 1),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_any_value_of_a_cell_gives_a_table_of_failures(table: str, row: int, data: st.DataObject):
    column = data.draw(st.sampled_from(sorted(TABLES[table])))
    values = {
        pl.Int64(): st.none() | st.integers(-(2**63), 2**63 - 1),
        pl.Float64(): st.none() | st.floats(),
        pl.String(): st.none() | st.text(max_size=8),
        pl.Datetime("us"): st.none() | st.integers(-(2**63), 2**63 - 1),
        pl.Boolean(): st.none() | st.booleans(),
    }
    value = data.draw(values[TABLES[table][column]])
    failures = checks.find_failures(
        vars(change_cells(valid_tables(), table, row, **{column: value}))
    )
    assert failures.schema == pl.Schema(checks.FAILURES)
