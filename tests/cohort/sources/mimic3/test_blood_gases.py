"""Blood gases of unknown specimens."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest

from flowsheet.cohort.engine.blood_gases import exclude_venous
from flowsheet.cohort.engine.database import load_database
from flowsheet.cohort.engine.exclusions import ExclusionLog

ITEMS = load_database("mimic3").items
NOON = datetime(2130, 5, 4, 12)


def rows(variable: str, value: float | None, minutes: int = 0) -> pl.DataFrame:
    code = ITEMS.codes_of(variable)[0]
    time = NOON + timedelta(minutes=minutes)
    table = {"stay": [0], "time": [time], "known_at": [time], "code": [code], "value": [value]}
    return pl.DataFrame(table, schema_overrides={"value": pl.Float64})[: value is not None]


@pytest.mark.parametrize(
    ("po2", "specimen", "pulse_oximetry", "is_kept"),
    [
        (44, None, None, False),
        (46, None, None, True),
        (44, 1, 99, True),  # arterial, as recorded
        (90, 0, None, False),
        (50, None, 99, True),
        (46, None, 99, False),  # a saturation of 82%
        (46, None, 90, True),
    ],
)
def test_a_blood_gas_of_an_unknown_specimen_is_not_always_arterial(
    po2: float, specimen: int | None, pulse_oximetry: float | None, is_kept: bool
):
    log = ExclusionLog()
    others = rows("o2sat", pulse_oximetry, minutes=-30)
    kept = exclude_venous(rows("po2", po2), rows("po2", specimen), others, ITEMS, log)
    assert kept.height == is_kept
    assert sum(log.counts.values()) == 1 - is_kept
