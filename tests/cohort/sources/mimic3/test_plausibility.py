"""Values that cannot be true are excluded or corrected, by what was in the record with them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl
import pytest

from flowsheet.cohort import catalogue
from tests.cohort.mimic3_folder import (
    SourceResult,
    add_rows,
    raw_tables,
    read_folder,
    write_tables,
)

CAREVUE = {"subject_id": 11, "hadm_id": 111, "icustay_id": 1001}
METAVISION = {"subject_id": 12, "hadm_id": 112, "icustay_id": 1002}
VITAL_SIGNS = {"hr": 211, "sbp": 51, "dbp": 8368, "map": 52, "resp": 618, "tidal": 682}


def charted(of: dict[str, int], time: str, itemid: int, number: float) -> dict[str, Any]:
    when = {"charttime": f"{time}:00", "storetime": f"{time}:30"}
    return of | when | {"itemid": itemid, "value": number, "valuenum": number}


def sampled(time: str, itemid: int, value: object) -> dict[str, Any]:
    row = {"subject_id": 11, "hadm_id": 111, "itemid": itemid, "charttime": f"{time}:00"}
    number = {"valuenum": value} if isinstance(value, int | float) else {}
    return row | {"value": value} | number


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SourceResult:
    tables = raw_tables()
    weights = [("02 08:00", 763, 234), ("02 09:00", 763, 96), ("02 10:00", 763, 218)]
    weights += [("02 11:00", 763, 220), ("02 12:00", 763, 300), ("02 13:00", 763, 175)]
    weights += [("02 14:00", 763, 190)]
    parts = [("02 05:00", 184, 1), ("02 05:00", 723, 1), ("02 05:01", 454, 1)]
    parts += [("02 06:00", 184, 4), ("02 06:00", 723, 5), ("02 06:06", 454, 6)]
    oximetry = [("03 01:30", 646, 98), ("03 02:30", 646, 70)]
    rows = [*weights, *parts, *oximetry]
    rows += [("02 07:00", itemid, 0) for itemid in VITAL_SIGNS.values()]
    add_rows(
        tables,
        "chartevents",
        *(charted(CAREVUE, f"2150-03-{time}", itemid, number) for time, itemid, number in rows),
    )
    gases = [("03 00:00", 50821, 38), ("03 01:40", 50821, 46), ("03 01:40", 50817, 87)]
    gases += [("03 02:40", 50821, 50), ("03 03:00", 50821, 38), ("03 03:00", 50800, "ART")]
    gases += [("03 04:00", 50912, 0)]
    samples = [sampled(f"2150-03-{time}", itemid, value) for time, itemid, value in gases]
    add_rows(tables, "labevents", *samples)
    vasopressin = {"itemid": 30051, "rateuom": "Umin"}
    for hour, rate in ((10, 0.04), (11, 1.2), (12, 600)):
        time = {"charttime": f"2150-03-02 {hour}:00:00", "storetime": f"2150-03-02 {hour}:05:00"}
        add_rows(tables, "inputevents_cv", CAREVUE | vasopressin | time | {"rate": rate})
    minute = {"starttime": "2160-01-01 09:00:00", "endtime": "2160-01-01 09:01:00"}
    propofol = {"itemid": 222168, "amount": 445, "amountuom": "mg", "patientweight": 90}
    add_rows(tables, "inputevents_mv", METAVISION | minute | propofol)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(tmp_path_factory.mktemp("home")))
        return read_folder(write_tables(tmp_path_factory.mktemp("values") / "tables", tables))


def values_of(result: SourceResult, variable: str, day: int) -> list[tuple[str, float]]:
    """(hour and minute, value) of a variable of the CareVue stay on a day, by time."""
    events = result.tables.events.filter(stay_id=1001, variable=variable).sort("time")
    events = events.filter(pl.col("time").dt.day() == day)
    return events.select(pl.col("time").dt.strftime("%H:%M"), pl.col("value").round(1)).rows()


@pytest.mark.parametrize("name", VITAL_SIGNS)
def test_zero_is_no_vital_sign(result: SourceResult, name: str):
    assert values_of(result, name, 2) == []
    assert result.excluded[f"chartevents: implausible: {name}"] >= 1


def test_a_creatinine_of_zero_is_no_result(result: SourceResult):
    assert values_of(result, "crea", 3) == []


def test_a_high_weight_needs_an_earlier_one_that_confirms_it_or_tells_pounds(
    result: SourceResult,
):
    # 234 has none before it, 218 and 220 are pounds, 300 fits to 96 in neither unit.
    weights = [
        ("09:00", 96.0),
        ("10:00", 98.9),
        ("11:00", 99.8),
        ("13:00", 175.0),
        ("14:00", 190.0),
    ]
    assert values_of(result, "weight", 2) == weights
    assert result.excluded["weight in pounds charted as kg, or not confirmed"] == 2


def test_parts_of_the_coma_score_within_five_minutes_are_one_examination(result: SourceResult):
    assert values_of(result, "gcs", 2) == [("05:01", 3.0)]
    assert values_of(result, "mgcs", 2) == [("05:01", 1.0), ("06:06", 6.0)]


def test_an_untold_specimen_is_arterial_only_if_oxygen_and_oximetry_allow_it(
    result: SourceResult,
):
    assert values_of(result, "po2", 3) == [("02:40", 50.0), ("03:00", 38.0)]
    assert values_of(result, "sao2", 3) == []  # of the sample whose pO2 is not arterial
    assert result.excluded["blood gas of an unknown specimen that looks venous"] == 3


def test_vasopressin_per_hour_that_is_charted_per_minute_is_corrected(result: SourceResult):
    doses = result.tables.treatments.filter(stay_id=1001, drug="vasopressin").sort("start")
    start, dose = pl.col("start").dt.hour(), pl.col("dose").round(3)
    assert doses.select(start, dose).rows() == [(10, 2.4), (11, 1.2), (12, None)]


def test_an_impossible_rate_is_an_infusion_of_unknown_dose(result: SourceResult):
    doses = result.tables.treatments.filter(stay_id=1002, drug="propofol").sort("start")
    assert doses["start"][-1] == datetime(2160, 1, 1, 9)
    assert doses["dose"][-1] is None
    reason = "rates above the highest of the drug: dose unknown (rows kept)"
    assert result.excluded[reason] == 2


def test_every_highest_rate_has_its_source():
    drugs = catalogue.drugs().values()
    bounded = [drug for drug in drugs if drug.max_rate is not None]
    assert {drug.name for drug in drugs if drug.group == "vasopressor"} <= {d.name for d in bounded}
    assert all(drug.max_rate > 0 and drug.rate_source for drug in bounded)  # type: ignore[operator]
