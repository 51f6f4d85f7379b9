"""What MIMIC-IV's tables have that MIMIC-III's have not, on a small folder."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from flowsheet.errors import CheckFailed
from tests.cohort.mimic3_folder import RawTables, add_rows
from tests.cohort.mimic4_folder import mimic4_tables, read_mimic4, write_mimic4

pytestmark = pytest.mark.usefixtures("flowsheet_home")
STAY = {"subject_id": 12, "hadm_id": 112}


@pytest.fixture
def tables() -> RawTables:
    return mimic4_tables()


def day(hour: float) -> datetime:
    return datetime(2160, 1, 1, int(hour), round(hour % 1 * 60))


def test_ages_are_those_of_the_anchor_year_and_hidden_ages_are_the_median(
    tables: RawTables, tmp_path: Path
):
    stays = read_mimic4(write_mimic4(tmp_path, tables)).tables.stays
    assert stays["stay_id"].to_list() == [1002, 1003, 1004]
    assert stays["age"].to_list() == [65, 65, 91.4]
    assert stays["site"].null_count() == 3


def test_a_result_is_known_when_it_was_stored_or_after_the_delay_of_its_item(
    tables: RawTables, tmp_path: Path
):
    events = read_mimic4(write_mimic4(tmp_path, tables)).tables.events
    known = dict(events.filter(time=day(5)).select("variable", "known_at").rows())
    assert known["crea"] == known["po2"] == day(7.5)
    assert day(5) < known["plt"] < day(9)
    events = read_mimic4(tmp_path, lab_delay_hours=1).tables.events
    assert set(events.filter(variable="crea")["known_at"]) == {day(6)}


def test_an_order_has_times_and_is_known_when_it_was_entered(tables: RawTables, tmp_path: Path):
    prednisone = tables["prescriptions"].filter(drug="PredniSONE")["pharmacy_id"].to_list()
    tables["prescriptions"] = tables["prescriptions"].with_columns(
        stoptime=pl.lit("2160-01-01 20:00:00")
    )
    for entered, known_at in (("05:00:00", day(6)), ("09:00:00", day(9))):
        times = [f"2160-01-01 {entered}"]
        tables["pharmacy"] = pl.DataFrame({"pharmacy_id": prednisone, "entertime": times})
        treatments = read_mimic4(write_mimic4(tmp_path / entered, tables)).tables.treatments
        order = treatments.filter(drug="prednisone", stay_id=1002)
        assert order.select("start", "end", "known_at").rows() == [(day(6), day(20), known_at)]


def test_doses_that_were_given_are_antibiotics_and_others_are_not(
    tables: RawTables, tmp_path: Path
):
    def suspicions(event: str) -> int:
        dose = {"charttime": "2160-01-01 08:00:00", "storetime": "2160-01-01 08:10:00"}
        dose |= {"medication": "CefePIME", "event_txt": event, "subject_id": "12"}
        emar = tables | {"emar": pl.DataFrame([dose | {"hadm_id": None, "pharmacy_id": "99"}])}
        emar["prescriptions"] = tables["prescriptions"].filter(drug="PredniSONE")
        emar["inputevents"] = tables["inputevents"].filter(itemid="222011")
        folder = write_mimic4(tmp_path / event, emar)
        counts = read_mimic4(folder, sepsis3={"confirm_after_hours": 0}).batches[0].source_counts
        return counts["times of suspicion"]

    assert suspicions("Administered") > 0
    assert suspicions("Not Given") == 0


def test_a_culture_without_an_admission_belongs_to_the_one_at_its_time(
    tables: RawTables, tmp_path: Path
):
    cultures = {"subject_id": "12", "hadm_id": None, "chartdate": "2159-12-30 00:00:00"}
    late = {"chartdate": "2160-03-01 00:00:00", "charttime": "2160-03-01 10:00:00"}
    columns = {"charttime": "2159-12-30 10:00:00", "spec_type_desc": "BLOOD CULTURE"}
    rows = [cultures | columns, cultures | columns | late]
    tables["microbiologyevents"] = pl.DataFrame(rows, infer_schema_length=None)
    result = read_mimic4(write_mimic4(tmp_path, tables))
    assert result.batches[0].source_counts["cultures"] > 0
    reason = "microbiologyevents: without HADM_ID, and no admission at that time"
    assert result.excluded[reason] == 1


def test_a_death_after_the_hospital_is_dated_to_the_end_of_its_day(
    tables: RawTables, tmp_path: Path
):
    died = pl.when(subject_id=pl.lit("12")).then(pl.lit("2160-02-01"))
    tables["patients"] = tables["patients"].with_columns(dod=died)
    stays = read_mimic4(write_mimic4(tmp_path, tables)).tables.stays
    assert stays["died_at"].to_list() == [datetime(2160, 2, 2), datetime(2160, 2, 2), None]


def test_codes_of_both_versions_count_and_of_others_give_no_score_that_is_too_low(
    tables: RawTables, tmp_path: Path
):
    earlier = {"hadm_id": "100", "admittime": "2159-01-01 00:00:00"}
    earlier |= {"subject_id": "12", "dischtime": "2159-01-09 00:00:00"}
    add_rows(tables, "admissions", earlier)
    for code, version, score in (("4280", "9", 2.0), ("I509", "10", 2.0), ("BD10", "11", None)):
        codes = {"hadm_id": "100", "icd_code": code, "icd_version": version}
        diagnoses = tables | {"diagnoses_icd": pl.DataFrame([codes])}
        folder = write_mimic4(tmp_path / version, diagnoses)
        assert read_mimic4(folder).tables.stays["charlson"].to_list()[:1] == [score]


def test_a_table_may_lie_in_one_folder_only(tables: RawTables, tmp_path: Path):
    folder = write_mimic4(tmp_path, tables)
    labs = (folder / "hosp" / "labevents.csv.gz").read_bytes()
    (folder / "icu" / "labevents.csv.gz").write_bytes(labs)
    with pytest.raises(CheckFailed, match="two folders have the table LABEVENTS"):
        read_mimic4(folder)
