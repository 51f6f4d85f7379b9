"""FiO2 is derived from the flow of oxygen and the device that was in the record with it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.cohort.mimic3_folder import add_rows, raw_tables, read_folder, write_tables

CHARTED = [  # time, stored, item, value
    ("12:00", "12:30", 467, "Nasal Cannula"),
    ("13:00", "13:30", 470, 4),  # 36%
    ("14:00", "14:05", 467, "Non-Rebreather"),
    ("15:00", "15:30", 470, 15),  # 90%
    ("16:00", "16:30", 470, 12),
    ("16:00", "16:30", 190, 0.7),  # charted: nothing is derived
    ("17:00", "19:00", 467, "Face Tent"),  # stored late
    ("18:00", "18:10", 470, 8),  # the face tent is not known yet
]


@pytest.mark.parametrize(
    ("is_derived", "expected"),
    [
        (False, [("11:00", 50.0), ("16:00", 70.0)]),
        (True, [("11:00", 50.0), ("13:00", 36.0), ("15:00", 90.0), ("16:00", 70.0)]),
    ],
)
def test_fio2_by_flow(tmp_path: Path, is_derived: bool, expected: list[tuple[str, float]]):
    tables = raw_tables()
    for time, stored, itemid, value in CHARTED:
        number = {"valuenum": value} if isinstance(value, int | float) else {}
        when = {"charttime": f"2150-03-01 {time}:00", "storetime": f"2150-03-01 {stored}:00"}
        ids = {"subject_id": 11, "hadm_id": 111, "icustay_id": 1001, "itemid": itemid}
        add_rows(tables, "chartevents", ids | when | {"value": value} | number)
    folder = write_tables(tmp_path / "tables", tables)
    events = read_folder(folder, fio2_from_flow=is_derived).tables.events
    fio2 = events.filter(stay_id=1001, variable="fio2").sort("time")
    assert fio2.select(pl.col("time").dt.strftime("%H:%M"), "value").rows() == expected
