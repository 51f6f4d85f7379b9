"""The profile of two small stays, and of quarantined values."""

from __future__ import annotations

import json

import polars as pl
import pytest

from flowsheet.cohort.extract import QUARANTINE
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.monitoring.profile import (
    PROFILE_SCHEMA,
    build_profile_sequences,
    compute_profile,
    profile_implausible_values,
)
from flowsheet.testing.tables import make_tables

TASK = TaskConfig(name="t", step_hours=6)
FEATURES = FeaturesConfig(name="f", statics=("sex",))


def two_stays() -> Tables:
    """Two stays of four steps; of the second, hardly anything is recorded."""
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


def profile_of(tables: Tables) -> dict[tuple[int, str, str], float]:
    """{(stay_id, kind, name): value}."""
    sequences = build_profile_sequences(
        tables, TASK, FEATURES, ("hr", "temp"), ("insulin",), {"sex": ["F", "M"]}
    )
    profile = compute_profile(sequences)
    assert dict(profile.schema) == PROFILE_SCHEMA
    return {
        (row["stay_id"], row["kind"], row["name"]): row["value"]
        for row in profile.iter_rows(named=True)
    }


def test_each_stay_has_one_value_of_each_property():
    assert profile_of(two_stays()) == pytest.approx(
        {
            (1, "length_of_stay", "steps"): 4,
            (2, "length_of_stay", "steps"): 4,
            (1, "measured_value", "hr"): 75,  # the mean of 90 and 60
            (2, "measured_value", "temp"): 38,
            (1, "measurement_rate", "hr"): 0.5,
            (2, "measurement_rate", "hr"): 0,
            (1, "measurement_rate", "temp"): 0,
            (2, "measurement_rate", "temp"): 0.25,
            (1, "treatment_exposure", "insulin"): 0.25,
            (2, "treatment_exposure", "insulin"): 0,
            (1, "demographics", "sex=F"): 0,
            (2, "demographics", "sex=F"): 1,
            (1, "demographics", "sex=M"): 1,
            (2, "demographics", "sex=M"): 0,
            (1, "demographics", "age"): 50,
        }
    )


def test_the_order_of_rows_does_not_matter():
    tables = two_stays()
    shuffled = {
        table: getattr(tables, table).sample(fraction=1, shuffle=True, seed=1) for table in TABLES
    }
    assert profile_of(Tables(**shuffled)) == pytest.approx(profile_of(tables))


def quarantine_row(stay: int, **changes) -> dict:
    """A quarantined temperature of 98.6."""
    row = {"stay_id": stay, "variable": "temp", "value": 98.6}
    row |= {name: changes.pop(name) for name in ("variable", "value") if name in changes}
    quarantined = {
        "table": "events",
        "stay_id": stay,
        "key": "",
        "column": "value",
        "rule": "plausible_range",
        "value": "",
        "row": json.dumps(row),
    }
    return quarantined | changes


def test_quarantined_implausible_values_have_their_own_rows():
    ignored = [
        quarantine_row(2, rule="duplicate"),
        quarantine_row(2, variable="lact"),
        quarantine_row(9),
        quarantine_row(2, table="stays"),
        quarantine_row(2, row=None),
    ]
    rows = [quarantine_row(1), quarantine_row(1, value=100.6), *ignored]
    profile = profile_implausible_values(
        pl.DataFrame(rows, schema=QUARANTINE), two_stays().stays, ("hr", "temp")
    )
    assert dict(profile.schema) == PROFILE_SCHEMA
    assert profile.rows() == [(1, 7, "measured_value", "temp", pytest.approx(99.6))]
