"""Renal replacement therapy and comfort measures are read from both chart systems."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl
import pytest

from tests.cohort.mimic3_folder import (
    SourceResult,
    add_rows,
    raw_tables,
    read_folder,
    write_tables,
)

CAREVUE = {"subject_id": 11, "hadm_id": 111, "icustay_id": 1001}
METAVISION = {"subject_id": 12, "hadm_id": 112, "icustay_id": 1002}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def charted(of: dict[str, int], time: str, itemid: int, value: object) -> dict[str, Any]:
    """A row of CHARTEVENTS, stored a quarter of an hour later."""
    number = {"valuenum": value} if isinstance(value, int | float) else {}
    row = {**of, "itemid": itemid, "charttime": f"{time}:00:00", "storetime": f"{time}:15:00"}
    return row | {"value": value} | number


@pytest.fixture(scope="module")
def renal(tmp_path_factory: pytest.TempPathFactory) -> SourceResult:
    """Dialysis in CareVue (1001) and MetaVision (1002, 1003)."""
    tables = raw_tables()
    add_rows(
        tables,
        "chartevents",
        charted(CAREVUE, "2150-03-01 12", 582, "Hemodialysis st"),
        charted(CAREVUE, "2150-03-01 15", 582, "Hemodialysis end"),
        charted(CAREVUE, "2150-03-01 16", 582, "EKG"),
        charted(CAREVUE, "2150-03-02 12", 79, 100),
        charted(CAREVUE, "2150-03-02 12", 665, "Clotted"),  # an end goes before a setting
        charted(CAREVUE, "2150-03-02 13", 146, 0),  # haemofiltration without dialysate
        charted(CAREVUE, "2150-03-02 14", 147, "No"),
        charted(CAREVUE, "2150-03-01 11", 128, "Full Code"),
        charted(CAREVUE, "2150-03-03 11", 128, "Comfort Measures"),
        charted(CAREVUE, "2150-03-01 11", 229, "Dialysis Line"),
        charted(CAREVUE, "2150-03-01 12", 229, "A-Line"),
        charted(CAREVUE, "2150-03-01 11", 467, "Non-Rebreather"),
        charted(CAREVUE, "2150-03-01 11", 1337, "Very Sedated"),
        charted(METAVISION, "2160-01-01 02", 224144, 120),
        charted(METAVISION, "2160-01-01 03", 225977, "Prismasate K4"),
        charted(METAVISION, "2160-01-01 04", 224146, "Discontinued"),
        charted(METAVISION, "2160-01-01 05", 223758, "DNR / DNI"),
    )
    add_rows(
        tables,
        "outputevents",
        CAREVUE | {"itemid": 40386, "charttime": "2150-03-03 10:00:00", "value": 1500},
        CAREVUE | {"itemid": 40386, "charttime": "2150-03-03 11:00:00", "value": 0},
    )
    add_rows(
        tables,
        "inputevents_cv",
        CAREVUE | {"itemid": 40788, "charttime": "2150-03-03 20:00:00", "amount": 2000},
        CAREVUE | {"itemid": 42699, "charttime": "2150-03-03 21:00:00", "amount": 300},
    )
    times = {"starttime": "2160-01-01 06:00:00", "endtime": "2160-01-01 09:00:00"}
    electrolyte = {"itemid": 227525, "amount": 2, "amountuom": "grams"}
    add_rows(tables, "inputevents_mv", METAVISION | times | electrolyte)
    run = {"starttime": "2160-01-03 13:00:00", "endtime": "2160-01-03 16:00:00", "itemid": 225441}
    add_rows(tables, "procedureevents_mv", METAVISION | {"icustay_id": 1003} | run)
    line = run | {"itemid": 225752, "endtime": "2160-01-03 18:00:00"}
    add_rows(tables, "procedureevents_mv", METAVISION | {"icustay_id": 1003} | line)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(tmp_path_factory.mktemp("home")))
        return read_folder(write_tables(tmp_path_factory.mktemp("renal") / "tables", tables))


def values_of(result: SourceResult, stay_id: int, variable: str) -> list[tuple[str, float]]:
    """(day and hour, value) of a variable in a stay, by time."""
    events = result.tables.events.filter(stay_id=stay_id, variable=variable).sort("time")
    return events.select(pl.col("time").dt.strftime("%d %H"), "value").rows()


def test_dialysis_runs_until_its_end_in_carevue(renal: SourceResult):
    assert values_of(renal, 1001, "rrt") == [
        ("01 12", 1.0),
        ("01 15", 0.0),
        ("02 12", 0.0),
        ("03 10", 1.0),  # fluid that was taken off
        ("03 20", 1.0),  # peritoneal dialysate
    ]


def test_dialysis_runs_until_its_end_in_metavision(renal: SourceResult):
    assert values_of(renal, 1002, "rrt") == [
        ("01 02", 1.0),
        ("01 03", 1.0),
        ("01 04", 0.0),
        ("01 06", 1.0),  # calcium into the circuit, which is a drug as well
    ]
    assert renal.tables.treatments.filter(stay_id=1002, drug="calcium_gluconate").height == 1
    assert values_of(renal, 1003, "rrt") == [("03 13", 1.0), ("03 16", 0.0)]


def test_irrigant_that_carevue_charts_among_the_inputs_is_read(renal: SourceResult):
    assert values_of(renal, 1001, "bladder_irrigant") == [("03 21", 300.0)]


def test_comfort_measures_count_from_when_the_record_first_says_so(renal: SourceResult):
    assert values_of(renal, 1001, "comfort_measures") == [("01 11", 0.0), ("03 11", 1.0)]
    assert values_of(renal, 1002, "comfort_measures") == [("01 05", 0.0)]
    limited = dict(renal.tables.stays.select("stay_id", "comfort_measures_at").iter_rows())
    assert limited[1001] == at("2150-03-03 11:15")
    assert limited[1002] is None


def test_lines_devices_and_sedation_are_read_from_their_texts(renal: SourceResult):
    assert values_of(renal, 1001, "dialysis_catheter") == [("01 11", 1.0)]
    assert values_of(renal, 1001, "central_line") == [("01 11", 1.0)]
    assert values_of(renal, 1001, "arterial_line") == [("01 12", 1.0)]
    assert values_of(renal, 1001, "o2_device") == [("01 11", 3.0)]
    assert values_of(renal, 1001, "sas") == [("01 11", 2.0)]
    assert values_of(renal, 1003, "arterial_line") == [("03 13", 1.0), ("03 17", 1.0)]
