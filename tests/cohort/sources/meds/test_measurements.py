"""Events from the measurements in the rows, each with the stay that it belongs to."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.cohort.sources.meds.conftest import (
    STAY_CODES,
    at,
    make_row,
    make_rows,
    open_source,
    run_ingest,
    write_data_set,
    write_mapping,
)


def test_values_are_the_decimal_numbers_that_were_stored(tmp_path: Path):
    tables = run_ingest(write_data_set(tmp_path / "raw", make_rows()), tmp_path / "out").tables()
    assert tables.events.filter(stay_id=499, variable="hr")["value"].to_list() == [81.0, 98.6]


@pytest.mark.parametrize(
    ("time", "is_in_stay"),
    [
        ("2150-02-28T09:00:00", True),  # within a day before admission
        ("2150-02-28T07:00:00", False),
        ("2150-03-01T08:00:00", True),
        ("2150-03-03T08:00:00", True),
        ("2150-03-03T10:00:00", True),  # within two hours after discharge
        ("2150-03-03T10:00:01", False),
    ],
)
def test_measurements_near_a_stay_belong_to_it_and_others_are_counted(
    tmp_path: Path, time: str, is_in_stay: bool
):
    rows = [*make_rows(), make_row(1, time, "LAB//220045//bpm", 71.0)]
    extract = run_ingest(write_data_set(tmp_path / "raw", rows), tmp_path / "out")
    stays = extract.tables().events.filter(value=71.0)["stay_id"].to_list()
    outside = {"measurements and drugs outside of all stays": 1}
    assert stays == ([499] if is_in_stay else [])
    assert dict(extract.manifest.exclusions) == ({} if is_in_stay else outside)


def test_another_unit_at_the_end_of_a_code_is_a_warning(tmp_path: Path):
    units = ("mg/dL", "umol/L", "UNK")
    more = [
        make_row(1, f"2150-03-01T1{hour}:00:00", f"LAB//50912//{unit}", 1.5)
        for hour, unit in enumerate(units)
    ]
    extract = run_ingest(write_data_set(tmp_path / "raw", make_rows() + more), tmp_path / "out")
    (warning,) = [w for w in extract.manifest.warnings if "a unit that is not known" in w]
    assert warning.startswith("CODES: 1 values")
    assert warning.endswith("crea in umol/l 1")


def test_a_measurement_is_known_at_its_storage_time_but_not_before_its_own_time(tmp_path: Path):
    rows = make_rows()
    rows[4]["storetime"] = "2150-03-01T09:40:00"
    rows[5]["storetime"] = "2150-03-01T09:40:00"  # before it was measured
    root = write_data_set(tmp_path / "raw", rows)
    events = run_ingest(root, tmp_path / "out", known_at="storetime").tables().events
    known_at = events.filter(stay_id=499, variable="hr")["known_at"]
    assert known_at.to_list() == [at("2150-03-01T09:40"), at("2150-03-02T08:00")]


def test_a_measurement_is_known_after_the_delay_of_the_mapping(tmp_path: Path):
    root = write_data_set(tmp_path / "raw", make_rows())
    file = write_mapping(tmp_path, [*STAY_CODES, "LAB//220045//*,variable,hr,,none,1.5"])
    events = run_ingest(root, tmp_path / "out", mapping=str(file)).tables().events
    events = events.filter(stay_id=499)
    assert set(events["known_at"] - events["time"]) == {timedelta(hours=1.5)}


def test_the_delay_of_the_mapping_is_not_added_to_a_time_of_storage(tmp_path: Path):
    rows = make_rows()
    rows[4]["storetime"] = "2150-03-01T09:40:00"
    root = write_data_set(tmp_path / "raw", rows)
    file = write_mapping(tmp_path, [*STAY_CODES, "LAB//220045//*,variable,hr,,none,1.5"])
    options = {"mapping": str(file), "known_at": "storetime"}
    events = run_ingest(root, tmp_path / "out", **options).tables().events.filter(stay_id=499)
    assert events["known_at"][0] == at("2150-03-01T09:40")
    assert events["known_at"][1] - events["time"][1] == timedelta(hours=1.5)


CONVERSIONS = {
    "fahrenheit": ("temp", 98.6, 37.0),
    "inches": ("height", 70.0, 177.8),
    "pounds": ("weight", 100.0, 45.359237),
    "ounces": ("weight", 1000.0, 28.349523),
    "fraction_or_percent": ("fio2", 0.4, 40.0),
    "negate": ("be", 3.0, -3.0),
    "running": ("vent", None, 1.0),
    "ended": ("vent", None, 0.0),
    "non_zero": ("rrt", -20.0, 1.0),
    "positive": ("rrt", 200.0, 1.0),
    "88.4": ("crea", 0.01, 0.884),
    "none": ("hr", 61.0, 61.0),
}


@pytest.mark.parametrize("convert", CONVERSIONS)
def test_units_are_converted_as_the_mapping_declares(tmp_path: Path, convert: str):
    name, charted, expected = CONVERSIONS[convert]
    file = write_mapping(tmp_path, [*STAY_CODES, f"MINE,variable,{name},,{convert},"])
    rows = [*make_rows(), make_row(1, "2150-03-01T11:00:00", "MINE", charted)]
    source = open_source(write_data_set(tmp_path / "raw", rows), mapping=str(file))
    values = pl.concat(batch.events for batch in source.batches())["value"]
    assert values.to_list() == [pytest.approx(expected, rel=1e-6)]


def test_a_flow_of_0_is_no_dialysis(tmp_path: Path):
    codes = ["LAB//224144//mL/min", "LAB//226499//mL"]
    rows = [make_row(1, f"2150-03-01T{11 + i}:00:00", code, 0.0) for i, code in enumerate(codes)]
    source = open_source(write_data_set(tmp_path, [*make_rows(), *rows]))
    batches = list(source.batches())
    events = pl.concat(batch.events for batch in batches)
    assert events.filter(variable="rrt").is_empty()
    assert batches[-1].exclusions["zeros that tell of no state that runs"] == 2


IS_SBP_OR_URINE = pl.col("variable").is_in(["sbp", "urine"])
TIME = "2150-03-01T11:00:00"


def make_simultaneous_rows():
    return [
        make_row(1, TIME, "LAB//220179//mmHg", 90.0),  # by cuff
        make_row(1, TIME, "LAB//220050//mmHg", 104.0),  # by arterial line: first in the mapping
        make_row(1, TIME, "LAB//220050//mmHg", 102.0),
        make_row(1, TIME, "LAB//220050//mmHg", 1020.0),
        make_row(1, TIME, "SUBJECT_FLUID_OUTPUT//226559//mL", 50.0),
        make_row(1, TIME, "SUBJECT_FLUID_OUTPUT//226560//mL", 20.0),
    ]


def test_of_simultaneous_values_the_first_code_of_the_mapping_is_used(tmp_path: Path):
    root = write_data_set(tmp_path / "raw", make_rows() + make_simultaneous_rows())
    extract = run_ingest(root, tmp_path / "out")
    events = extract.tables().events.filter(IS_SBP_OR_URINE)
    # outputs are summed
    assert events.select("variable", "value").rows() == [("sbp", 102.0), ("urine", 70.0)]
    assert dict(extract.manifest.exclusions) == {
        "implausible values": 1,
        "repeated values of a code at the same time": 1,
        "values of less preferred codes at the same time": 1,
    }


def test_of_simultaneous_values_the_one_known_first_is_used(tmp_path: Path):
    rows = make_simultaneous_rows()
    rows[0]["storetime"] = "2150-03-01T12:00:00"
    for row in rows[1:]:
        row["storetime"] = "2150-03-01T13:00:00"
    root = write_data_set(tmp_path / "raw", make_rows() + rows)
    events = run_ingest(root, tmp_path / "out", known_at="storetime").tables().events
    assert events.filter(IS_SBP_OR_URINE)["value"].to_list() == [90.0, 70.0]


def test_measurements_without_a_number_are_counted(tmp_path: Path):
    more = [
        make_row(1, "2150-03-01T12:00:00", "LAB//220045//bpm"),
        make_row(1, "2150-03-01T13:00:00", "LAB//220045//bpm", float("nan")),
    ]
    extract = run_ingest(write_data_set(tmp_path / "raw", make_rows() + more), tmp_path / "out")
    assert dict(extract.manifest.exclusions) == {"measurements without a number": 2}


def test_a_blood_gas_of_an_unknown_specimen_that_looks_venous_is_excluded(tmp_path: Path):
    """pO2 below 45 mmHg, or of a saturation far below the pulse oximeter's."""
    rows = make_rows()
    for minute, po2 in ((0, 40.0), (20, 46.0), (40, 60.0)):
        time = f"2150-03-01T12:{minute:02}:00"
        rows += [make_row(1, time, "LAB//RESULT//50821//mmHg", po2)]
        rows += [make_row(1, time, "LAB//RESULT//50817//%", 80.0)]
    rows += [make_row(1, "2150-03-01T12:10:00", "LAB//220277//%", 98.0)]
    root = write_data_set(tmp_path / "raw", rows)
    extract = run_ingest(root, tmp_path / "out", mapping="mimic")
    events = extract.tables().events
    assert events.filter(variable="po2")["value"].to_list() == [60.0]
    assert events.filter(variable="sao2")["value"].to_list() == [80.0]
    exclusions = dict(extract.manifest.exclusions)
    assert exclusions["blood gases of an unknown specimen that look venous"] == 4
    lines = [*STAY_CODES, "LAB//RESULT//50821//*,variable,po2,,,"]
    arterial = write_mapping(tmp_path, lines)
    as_mapped = run_ingest(root, tmp_path / "mapped", mapping=str(arterial)).tables().events
    assert as_mapped.filter(variable="po2")["value"].to_list() == [40.0, 46.0, 60.0]
