"""When the infusions of CLIF's continuous medication end."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from tests.cohort.clif_folder import clif_tables, read_clif, write_clif
from tests.cohort.mimic3_folder import RawTables


@pytest.fixture
def tables() -> RawTables:
    return clif_tables()


_CONTINUOUS = "clif_medication_admin_continuous"
_TITRATION = [
    ("o1", "08:00", "0.1", "start"),
    ("o1", "09:00", "0.2", "dose_change"),
    ("o2", "10:00", "0.2", "start"),
]


def _read_infusions(
    folder: Path, tables: RawTables, rows: list[tuple[str, ...]], **columns: str
) -> list[tuple[int, int, float]]:
    """First and last hour, and the rate in mcg/kg/min, of the infusions of 2 January.

    Args:
        folder: a folder for the tables.
        tables: the other tables.
        rows: order, time of day, rate, action, and if they are not all iv the route, of each row.
        columns: the drug and its unit, if it is not norepinephrine.
    """
    names = ["med_order_id", "admin_dttm", "med_dose", "mar_action_category", "med_route_category"]
    table = pl.DataFrame(rows, schema=names[: len(rows[0])], orient="row")
    same = {
        "hospitalization_id": "H-112",
        "med_category": "norepinephrine",
        "med_dose_unit": "mcg/kg/min",
        "med_route_category": "iv",
    }
    time = pl.format("2160-01-02 {}:00Z", "admin_dttm")
    given = [name for name in {**same, **columns} if name not in table.columns]
    constants = [pl.lit({**same, **columns}[name]).alias(name) for name in given]
    tables[_CONTINUOUS] = table.with_columns(*constants, admin_dttm=time)
    treatments = read_clif(write_clif(folder, tables)).tables.treatments
    infusions = treatments.filter(pl.col("end") > pl.col("start"), start=pl.col("known_at"))
    hours = pl.col("start", "end").dt.hour()
    return infusions.select(hours, (pl.col("dose") / 60).round(6)).rows()


def test_a_renewed_order_replaces_the_one_whose_stop_is_not_charted(
    tables: RawTables, tmp_path: Path
):
    rows = [*_TITRATION, ("o2", "14:00", "0", "stop")]
    infusions = _read_infusions(tmp_path, tables, rows)
    assert infusions == [(8, 9, 0.1), (9, 10, 0.2), (10, 14, 0.2)]


@pytest.mark.parametrize("late", ["0.0", "0.2"])
def test_a_stop_of_the_old_order_does_not_end_the_new_one(
    tables: RawTables, tmp_path: Path, late: str
):
    rows = [*_TITRATION, ("o1", "11:00", late, "stop"), ("o2", "14:00", "0", "stop")]
    infusions = _read_infusions(tmp_path, tables, rows)
    assert infusions == [(8, 9, 0.1), (9, 10, 0.2), (10, 14, 0.2)]


def test_two_lines_that_are_charted_in_turn_run_side_by_side(tables: RawTables, tmp_path: Path):
    rows = [
        *_TITRATION,
        ("o1", "11:00", "0.2", "going"),
        ("o2", "12:00", "0.3", "dose_change"),
        ("o1", "13:00", "0", "stop"),
        ("o2", "14:00", "0", "stop"),
    ]
    infusions = _read_infusions(tmp_path, tables, rows)
    both = [(10, 12, 0.2), (11, 13, 0.2), (12, 14, 0.3)]
    assert infusions == [(8, 9, 0.1), (9, 10, 0.2), *both]


def test_orders_that_begin_together_run_side_by_side(tables: RawTables, tmp_path: Path):
    rows = [("o1", "08:00", "0.1", "start"), ("o2", "08:00", "0.2", "start")]
    rows += [(order, "10:00", "0", "stop") for order in ("o1", "o2")]
    assert _read_infusions(tmp_path, tables, rows) == [(8, 10, 0.1), (8, 10, 0.2)]


@pytest.mark.parametrize("route", ["epidural", "iv"])
def test_a_stop_without_a_route_ends_its_order(tables: RawTables, tmp_path: Path, route: str):
    rows = [("o1", "08:00", "0.1", "start", route), ("o1", "10:00", "0", "stop", "")]
    assert _read_infusions(tmp_path, tables, rows) == [(8, 10, 0.1)]


def test_fluids_run_in_several_lines(tables: RawTables, tmp_path: Path):
    rows = [
        ("o1", "08:00", "60", "start"),
        ("o2", "09:00", "120", "start"),
        ("o2", "10:00", "0", "stop"),
        ("o1", "11:00", "0", "stop"),
    ]
    fluid = {"med_category": "sodium chloride", "med_dose_unit": "ml/hr"}
    assert _read_infusions(tmp_path, tables, rows, **fluid) == [(8, 11, 1.0), (9, 10, 2.0)]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("action", "stops", "infusions"),
    [
        ("going", ("o1", "o1"), [(8, 10, 0.1)]),
        ("start", ("o1", "o1"), [(8, 10, 0.1), (10, 12, 0.3)]),
        ("going", ("o1", "o2"), [(8, 10, 0.1), (10, 12, 0.3)]),
        ("start", ("", ""), [(8, 10, 0.1), (10, 12, 0.3)]),
    ],
)
def test_a_stop_and_a_rate_in_one_minute(
    tables: RawTables,
    tmp_path: Path,
    order: int,
    action: str,
    stops: tuple[str, str],
    infusions: list[tuple[int, int, float]],
):
    stopped, other = stops
    rows = [
        (stopped, "08:00", "0.1", "start"),
        (stopped, "10:00", "0.1", "stop"),
        (other, "10:00", "0.3", action),
        (other, "12:00", "0", "stop"),
    ]
    assert _read_infusions(tmp_path, tables, rows[::order]) == infusions


def test_a_paused_infusion_does_not_run(tables: RawTables, tmp_path: Path):
    name = "clif_medication_admin_continuous"
    action = pl.col("mar_action_category").replace("stop", "Paused")
    dose = pl.col("med_dose").replace("0", "0.2")  # the dose to which it will return
    tables[name] = tables[name].with_columns(action, dose)
    treatments = read_clif(write_clif(tmp_path, tables)).tables.treatments
    assert treatments.filter(drug="norepinephrine")["end"].max() == datetime(2160, 1, 2, 8)
