"""Small tables of the contract: from rows with times in hours, or drawn by hypothesis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import strategies as st

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import EPOCH, SORT_KEYS, TABLES, TIME, Tables

Row = Mapping[str, Any]

VARIABLES = ("hr", "lact", "wbc")
DRUGS = ("norepinephrine", "vancomycin")
_TIME_COLUMNS = {"events": "time", "treatments": "start", "episodes": "onset"}
_QUARTER = 0.25
"""Hours; a coarse step, so that drawn times are often at the boundaries of the grid."""


def at(hours: float) -> datetime:
    """The time that many hours after ``EPOCH``."""
    return EPOCH + timedelta(hours=hours)


def table(name: str, rows: Iterable[Row]) -> pl.DataFrame:
    """A table of the contract; times are hours after ``EPOCH``, missing columns are null.

    ``known_at`` defaults to when the fact was true, ``subject_id`` to ``stay_id``,
    ``admitted_at`` to 0.

    >>> table("events", [{"stay_id": 1, "time": 2.5, "variable": "hr", "value": 80.0}]).row(0)[1:3]
    (datetime.datetime(2000, 1, 1, 2, 30), datetime.datetime(2000, 1, 1, 2, 30))
    """
    schema = TABLES[name]
    filled = [_with_defaults(name, row) for row in rows]
    columns: dict[str, list[Any]] = {}
    for column, dtype in schema.items():
        columns[column] = [_as_cell(row.get(column), dtype) for row in filled]
    return pl.DataFrame(columns, schema=schema).sort(SORT_KEYS[name])


def make_tables(
    stays: Iterable[Row],
    events: Iterable[Row] = (),
    treatments: Iterable[Row] = (),
    episodes: Iterable[Row] = (),
) -> Tables:
    """All four tables of the contract, each from rows as for ``table``.

    Args:
        stays: Rows of stays; times in hours after ``EPOCH``, in all four tables.
        events: Rows of events.
        treatments: Rows of treatments.
        episodes: Rows of episodes.
    """
    return Tables(
        table("stays", stays),
        table("events", events),
        table("treatments", treatments),
        table("episodes", episodes),
    )


def _with_defaults(name: str, row: Row) -> dict[str, Any]:
    if name == "stays":
        return {"subject_id": row["stay_id"], "admitted_at": 0.0, **row}
    if name == "episodes":
        row = {"response": "sepsis", **row}
    return {"known_at": row[_TIME_COLUMNS[name]], **row}


def _as_cell(value: Any, dtype: pl.DataType) -> Any:
    return at(value) if dtype == TIME and value is not None else value


@st.composite
def random_tables(
    draw: st.DrawFn,
    variables: tuple[str, ...] = VARIABLES,
    drug_names: tuple[str, ...] = DRUGS,
    max_stays: int = 3,
    max_hours: int = 60,
) -> Tables:
    """Tables that follow the contract: stays 1..n, facts in or near them, known at once or later.

    Args:
        draw: Given by hypothesis.
        variables: The variables of the events.
        drug_names: The drugs of the treatments.
        max_stays: The largest number of stays.
        max_hours: The longest stay.
    """
    stays = [draw(_stay(i + 1, max_hours)) for i in range(draw(st.integers(1, max_stays)))]
    events: list[Row] = []
    treatments: list[Row] = []
    episodes: list[Row] = []
    for stay in stays:
        unique = st.lists(
            _event(stay, variables),
            min_size=1,
            max_size=12,
            unique_by=lambda event: (event["time"], event["variable"]),
        )
        events += draw(unique)
        treatments += draw(st.lists(_treatment(stay, drug_names), max_size=4, unique_by=str))
        episodes += draw(_episodes(stay))
    return make_tables(stays, events, treatments, episodes)


def _hours(low: float, high: float) -> st.SearchStrategy[float]:
    return st.integers(round(low / _QUARTER), round(high / _QUARTER)).map(lambda n: n * _QUARTER)


def _near(stay: Row) -> st.SearchStrategy[float]:
    return _hours(stay["admitted_at"] - 20, stay["discharged_at"] + 10)


_DELAY = st.just(0.0) | _hours(0, 30) | _hours(0, 30)


@st.composite
def _stay(draw: st.DrawFn, stay_id: int, max_hours: int) -> Row:
    admitted = draw(_hours(0, 48))
    length = draw(_hours(_QUARTER, max_hours))
    unobserved = draw(st.none() | _hours(0, length - _QUARTER))
    in_hospital = draw(st.none() | _hours(0, 30))
    until_death = draw(st.none() | _hours(-20, 50))
    died = None if until_death is None else max(0.0, length + until_death) + admitted
    until_comfort_measures = draw(st.none() | _hours(0, length))
    return {
        "stay_id": stay_id,
        "subject_id": draw(st.integers(1, 3)),
        "site": "A",
        "hospital_admitted_at": None if in_hospital is None else admitted - in_hospital,
        "admitted_at": admitted,
        "observed_from": None if unobserved is None else admitted + unobserved,
        "discharged_at": admitted + length,
        "died_at": died,
        "hospital_death": None if until_death is None else until_death <= 0,
        "comfort_measures_at": (
            None if until_comfort_measures is None else admitted + until_comfort_measures
        ),
        "age": draw(st.none() | st.floats(18, 90)),
        "weight_kg": draw(st.none() | st.floats(40, 140)),
        "sex": draw(st.sampled_from([None, "F", "M"])),
        "unit": draw(st.sampled_from([None, "MICU", "SICU"])),
    }


@st.composite
def _event(draw: st.DrawFn, stay: Row, names: tuple[str, ...]) -> Row:
    time = draw(_near(stay))
    name = draw(st.sampled_from(names))
    variable = catalogue.variable(name)
    return {
        "stay_id": stay["stay_id"],
        "time": time,
        "known_at": time + draw(_DELAY),
        "variable": name,
        "value": draw(st.floats(variable.low, variable.high)),
    }


@st.composite
def _treatment(draw: st.DrawFn, stay: Row, names: tuple[str, ...]) -> Row:
    start, end = sorted((draw(_near(stay)), draw(_near(stay))))
    drug = draw(st.sampled_from(names))
    return {
        "stay_id": stay["stay_id"],
        "drug": drug,
        "start": start,
        "end": draw(st.sampled_from([start, end])),
        "known_at": start + draw(_DELAY),
        "dose": draw(st.none() | st.floats(0, 1000)),
        "unit": catalogue.drug(drug).unit,
    }


@st.composite
def _episodes(draw: st.DrawFn, stay: Row) -> list[Row]:
    times = sorted(draw(st.lists(_near(stay), max_size=4, unique=True)))
    ends = [*times[1::2], None]  # only the last episode may be without an end
    episodes: list[Row] = [
        {"stay_id": stay["stay_id"], "onset": onset, "end": end, "known_at": onset + draw(_DELAY)}
        for onset, end in zip(times[::2], ends, strict=False)
    ]
    is_present_on_admission = draw(st.sampled_from([None, False, True]))
    return [{**row, "present_on_admission": is_present_on_admission} for row in episodes[:1]] + [
        {**row, "present_on_admission": False} for row in episodes[1:]
    ]
