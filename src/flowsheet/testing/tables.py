"""Small tables of the contract: written by hand in hours, or drawn at random by hypothesis."""

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
_TOLD_WITH = {"events": "time", "treatments": "start", "episodes": "onset"}
_QUARTER = 0.25
"""Hours; drawn times meet the grid's boundaries often."""


def at(hours: float) -> datetime:
    """That many hours after ``EPOCH``."""
    return EPOCH + timedelta(hours=hours)


def table(name: str, rows: Iterable[Row]) -> pl.DataFrame:
    """A table of the contract; times are hours after ``EPOCH``, columns left out are null.

    ``known_at`` defaults to when the fact was true, ``subject_id`` to the stay, ``admitted_at`` to
    ``EPOCH``.

    >>> table("events", [{"stay_id": 1, "time": 2.5, "variable": "hr", "value": 80.0}]).row(0)[1:3]
    (datetime.datetime(2000, 1, 1, 2, 30), datetime.datetime(2000, 1, 1, 2, 30))
    """
    schema = TABLES[name]
    filled = [_defaults(name, row) for row in rows]
    cells = {
        column: [_cell(row.get(column), schema[column]) for row in filled] for column in schema
    }
    return pl.DataFrame(cells, schema=schema).sort(SORT_KEYS[name])


def make_tables(
    stays: Iterable[Row],
    events: Iterable[Row] = (),
    treatments: Iterable[Row] = (),
    episodes: Iterable[Row] = (),
) -> Tables:
    """All four tables, as :func:`table` makes them."""
    return Tables(
        table("stays", stays),
        table("events", events),
        table("treatments", treatments),
        table("episodes", episodes),
    )


def _defaults(name: str, row: Row) -> dict[str, Any]:
    if name == "stays":
        return {"subject_id": row["stay_id"], "admitted_at": 0.0, **row}
    return {"known_at": row[_TOLD_WITH[name]], **row}


def _cell(value: Any, dtype: pl.DataType) -> Any:
    return at(value) if dtype == TIME and value is not None else value


@st.composite
def random_tables(
    draw: st.DrawFn,
    variables: tuple[str, ...] = VARIABLES,
    drug_names: tuple[str, ...] = DRUGS,
    max_stays: int = 3,
    max_hours: int = 60,
) -> Tables:
    """Tables that keep the contract: stays 1..n, facts near or inside them, told at once or late."""
    stays = [draw(_stay(i + 1, max_hours)) for i in range(draw(st.integers(1, max_stays)))]
    events: list[Row] = []
    treatments: list[Row] = []
    episodes: list[Row] = []
    for stay in stays:
        events += draw(
            st.lists(
                _event(stay, variables),
                min_size=1,
                max_size=12,
                unique_by=lambda e: (e["time"], e["variable"]),
            )
        )
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
    admitted, length = draw(_hours(0, 48)), draw(_hours(_QUARTER, max_hours))
    late, before = draw(st.none() | _hours(0, length - _QUARTER)), draw(st.none() | _hours(0, 30))
    return {
        "stay_id": stay_id,
        "subject_id": draw(st.integers(1, 3)),
        "site": "A",
        "hospital_admitted_at": None if before is None else admitted - before,
        "admitted_at": admitted,
        "observed_from": None if late is None else admitted + late,
        "discharged_at": admitted + length,
        "age": draw(st.none() | st.floats(18, 90)),
        "weight_kg": draw(st.none() | st.floats(40, 140)),
        "sex": draw(st.sampled_from([None, "F", "M"])),
        "unit": draw(st.sampled_from([None, "MICU", "SICU"])),
    }


@st.composite
def _event(draw: st.DrawFn, stay: Row, names: tuple[str, ...]) -> Row:
    time, variable = draw(_near(stay)), draw(st.sampled_from(names))
    known = catalogue.variable(variable)
    return {
        "stay_id": stay["stay_id"],
        "time": time,
        "known_at": time + draw(_DELAY),
        "variable": variable,
        "value": draw(st.floats(known.low, known.high)),
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
    ends = [*times[1::2], None]  # an episode that was not over is the last
    return [
        {"stay_id": stay["stay_id"], "onset": onset, "end": end, "known_at": onset + draw(_DELAY)}
        for onset, end in zip(times[::2], ends, strict=False)
    ]
