"""A stay from afar."""

from __future__ import annotations

import polars as pl
import pytest

from flowsheet.cohort.extract import QUARANTINE
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.monitoring.profile import PROFILE, build_profile_sequences, implausible, profile
from flowsheet.testing.tables import make_tables

TASK = TaskConfig(name="t", step_hours=6)
FEATURES = FeaturesConfig(name="f", statics=("sex",))


def tables() -> Tables:
    """Two stays of four steps; the second one knows next to nothing."""
    return make_tables(
        stays=[
            {"stay_id": 1, "subject_id": 7, "discharged_at": 24, "age": 50.0, "sex": "M"},
            {"stay_id": 2, "subject_id": 8, "discharged_at": 24, "sex": "F"},
        ],
        events=[
            {"stay_id": 1, "time": 1, "variable": "hr", "value": 80.0},
            {"stay_id": 1, "time": 2, "variable": "hr", "value": 100.0},
            {"stay_id": 1, "time": 13, "variable": "hr", "value": 60.0},
            {"stay_id": 2, "time": 13, "variable": "temp", "value": 38.0},
        ],
        treatments=[
            {"stay_id": 1, "drug": "insulin", "start": 1, "end": 2, "dose": 4.0, "unit": "U"}
        ],
        episodes=[],
    )


def lines(some: Tables) -> dict[tuple[int, str, str], float]:
    held = profile(
        build_profile_sequences(
            some, TASK, FEATURES, ("hr", "temp"), ("insulin",), {"sex": ["F", "M"]}
        )
    )
    assert dict(held.schema) == PROFILE
    return {(row[0], row[2], row[3]): row[4] for row in held.iter_rows()}


def test_what_is_known_of_each_stay():
    assert lines(tables()) == pytest.approx(
        {
            (1, "stay", "steps"): 4, (2, "stay", "steps"): 4,
            (1, "value", "hr"): 75, (2, "value", "temp"): 38,  # the mean of 90 and 60
            (1, "presence", "hr"): 0.5, (2, "presence", "hr"): 0,
            (1, "presence", "temp"): 0, (2, "presence", "temp"): 0.25,
            (1, "given", "insulin"): 0.25, (2, "given", "insulin"): 0,
            (1, "person", "sex=F"): 0, (2, "person", "sex=F"): 1,
            (1, "person", "sex=M"): 1, (2, "person", "sex=M"): 0,
            (1, "person", "age"): 50,
        }
    )  # fmt: skip


def test_the_order_of_rows_does_not_matter():
    some = tables()
    mixed = Tables(**{t: getattr(some, t).sample(fraction=1, shuffle=True, seed=1) for t in TABLES})
    assert lines(mixed) == pytest.approx(lines(some))


def test_values_that_were_set_aside_are_lines_of_their_own():
    def line(stay, rule="plausible_range", variable="temp", value=98.6, table="events"):
        row = f'{{"stay_id": {stay}, "variable": "{variable}", "value": {value}}}'
        return {
            "table": table,
            "stay_id": stay,
            "key": "",
            "column": "value",
            "rule": rule,
            "value": "",
            "row": row,
        }

    told = [
        line(1),
        line(1, value=100.6),
        line(2, rule="duplicate"),
        line(2, variable="lact"),
        line(9),
    ]
    told += [line(2, table="stays"), line(2) | {"row": None}]
    found = implausible(pl.DataFrame(told, schema=QUARANTINE), tables().stays, ("hr", "temp"))
    assert dict(found.schema) == PROFILE
    assert found.rows() == [(1, 7, "value", "temp", pytest.approx(99.6))]
