"""Orders of drugs by name, and doses that wards gave: the codes MEDICATION//."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flowsheet.cohort.sepsis3 import Sepsis3Options
from tests.cohort.sources.meds.conftest import (
    Row,
    at,
    make_row,
    make_rows,
    open_source,
    write_data_set,
)

START, STOP = "MEDICATION//START//", "MEDICATION//STOP//"
NOON, EVENING, NEXT_DAY = "2150-03-01T12:00:00", "2150-03-01T20:00:00", "2150-03-02T06:00:00"


def read(folder: Path, rows: list[Row], **options: Any) -> dict[str, pl.DataFrame]:
    """The treatments of subject 1 without a dose, and the excluded rows."""
    batches = list(open_source(write_data_set(folder, [*make_rows(), *rows]), **options).batches())
    treatments = pl.concat(batch.treatments for batch in batches).filter(stay_id=499)
    excluded = pl.DataFrame(list(batches[-1].exclusions.items()), ["reason", "n"], orient="row")
    return {"orders": treatments.filter(pl.col("dose").is_null()), "excluded": excluded}


def make_order(name: str, time: str = NOON, **more: Any) -> Row:
    return make_row(1, time, f"{START}{name}", **more)


def test_an_order_lasts_until_its_stop(tmp_path: Path):
    stop = make_row(1, NEXT_DAY, f"{STOP}PredniSONE")
    rows = [make_order("PredniSONE"), stop, make_order("OxyCODONE (Immediate Release)")]
    orders = read(tmp_path, rows)["orders"].sort("drug")
    assert orders.select("drug", "start", "end", "known_at").rows() == [
        ("oxycodone", at(NOON), at(NOON), at(NOON)),
        ("prednisone", at(NOON), at(NEXT_DAY), at(NOON)),
    ]


def test_an_order_ends_with_the_stop_of_its_own_entry(tmp_path: Path):
    rows = [
        make_order("PredniSONE", poe_id="1-2"),
        make_row(1, EVENING, f"{STOP}PredniSONE", poe_id="1-1"),
        make_row(1, NEXT_DAY, f"{STOP}PredniSONE", poe_id="1-2"),
    ]
    assert read(tmp_path, rows)["orders"]["end"].to_list() == [at(NEXT_DAY)]


@pytest.mark.parametrize("entries", [("1-1", "1-2"), (None, None)])
def test_an_order_that_is_renewed_when_it_stops_goes_on(tmp_path: Path, entries):
    old, new = entries
    rows = [
        make_order("PredniSONE", poe_id=old),
        make_row(1, EVENING, f"{STOP}PredniSONE", poe_id=old),
        make_order("PredniSONE", EVENING, poe_id=new),
        make_row(1, NEXT_DAY, f"{STOP}PredniSONE", poe_id=new),
    ]
    orders = read(tmp_path, rows)["orders"].sort("start")
    expected = [(at(NOON), at(EVENING)), (at(EVENING), at(NEXT_DAY))]
    assert orders.select("start", "end").rows() == expected


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("PrednisoLONE Acetate 1% Ophth. Susp.", None),
        ("Dexamethasone Inhalation", None),
        ("PredniSONE", "BOTH EYES"),
    ],
)
def test_local_treatment_is_none_of_the_whole_body(tmp_path: Path, name: str, route: str | None):
    assert read(tmp_path, [make_order(name, route=route)])["orders"].is_empty()


def test_drugs_that_the_catalogue_does_not_map_are_counted_by_name(tmp_path: Path):
    excluded = read(tmp_path, [make_order("Bisacodyl")])["excluded"]
    assert excluded.filter(reason=f"the code '{START}Bisacodyl' is not in the mapping")["n"][0] == 1


def find_suspicions(folder: Path, *rows: Row) -> int:
    """How many stays have a suspected infection, with a culture at 13:00."""
    culture = make_row(1, "2150-03-01T13:00:00", "CULTURE//BLOOD CULTURE")
    rows_and_culture = [*make_rows(), culture, *rows]
    options = Sepsis3Options(confirm_after_hours=0)
    source = open_source(write_data_set(folder, rows_and_culture), sepsis3=options)
    return sum(batch.source_counts["stays with suspected infection"] for batch in source.batches())


@pytest.mark.parametrize(
    ("code", "route", "n"),
    [
        (f"{START}Levofloxacin", "PO", 1),
        (f"{START}Levofloxacin", None, 1),
        (f"{START}Ciprofloxacin", "LEFT EAR", 0),
        (f"{START}Oseltamivir", "PO", 0),
        ("MEDICATION//Levofloxacin//Administered", None, 1),
        ("MEDICATION//Levofloxacin//Delayed Administered", None, 1),
        ("MEDICATION//Levofloxacin//Not Given", None, 0),
        ("MEDICATION//Levofloxacin//UNK", None, 0),
        ("MEDICATION//Bisacodyl//Administered", None, 0),
    ],
)
def test_antibiotics_by_mouth_are_a_suspicion(tmp_path: Path, code: str, route: str | None, n: int):
    assert find_suspicions(tmp_path, make_row(1, NOON, code, route=route)) == n


def test_a_dose_has_the_route_of_its_order(tmp_path: Path):
    dose = make_row(1, "2150-03-01T12:30:00", "MEDICATION//Ciprofloxacin//Administered")
    assert find_suspicions(tmp_path / "ear", make_order("Ciprofloxacin", route="AU"), dose) == 0
