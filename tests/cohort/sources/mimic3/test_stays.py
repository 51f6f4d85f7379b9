"""Stays are selected, and their columns are filled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from flowsheet.cohort.sources.mimic3 import Mimic3Options
from tests.cohort.mimic3_folder import (
    SourceResult,
    add_rows,
    raw_tables,
    read_folder,
    write_tables,
)


def test_stays_have_the_contracts_columns_and_their_attrition_is_counted(result: SourceResult):
    stays = result.tables.stays
    assert stays["stay_id"].to_list() == [1001, 1002, 1003, 1004]
    assert stays["site"].to_list() == ["carevue", *["metavision"] * 3]
    assert stays["age"].round(1).to_list() == [50.0, 65.0, 65.0, 91.4]
    assert stays["hospital_admitted_at"][0] == datetime(2150, 3, 1, 8)
    assert result.attrition["in the raw tables"] == 5
    assert result.attrition["aged 18 or over"] == 4


def test_first_stays_and_services_can_be_selected(read_shared: Callable[..., SourceResult]):
    first = read_shared(first_stay_only=True)
    assert first.tables.stays["stay_id"].to_list() == [1001, 1002, 1004]
    medical = read_shared(excluded_services=["CSURG"])
    assert medical.tables.stays["stay_id"].to_list() == [1001, 1004]
    assert medical.attrition["not under CSURG"] == 2


def test_a_stay_ends_at_death(tmp_path: Path):
    tables = raw_tables()
    died_at = {"111": "2150-03-02 10:00:00", "112": "2160-01-02 18:00:00"}
    tables["admissions"] = tables["admissions"].with_columns(
        deathtime=pl.col("hadm_id").replace_strict(died_at, default=""),
        hospital_expire_flag=pl.col("hadm_id").is_in(list(died_at)).cast(pl.Int8).cast(pl.String),
        ethnicity=pl.lit("WHITE"),
        edregtime=pl.lit(""),
    )
    result = read_folder(write_tables(tmp_path / "tables", tables))
    stays = result.tables.stays
    # The second stay of admission 112 begins after the patient's death.
    assert stays["stay_id"].to_list() == [1001, 1002, 1004]
    assert result.attrition["of patients alive at the start"] == 4
    assert stays["died_at"].to_list() == [datetime(2150, 3, 2, 10), datetime(2160, 1, 2, 18), None]
    assert stays["discharged_at"][0] == datetime(2150, 3, 2, 10)
    assert stays["discharged_at"][1] == datetime(2160, 1, 2, 12)
    assert stays["hospital_death"].to_list() == [True, True, False]
    assert stays["ethnicity"].unique().to_list() == ["WHITE"]
    assert stays["insurance"].null_count() == 3
    latest = result.tables.events.filter(stay_id=1001)["time"].max()
    assert latest <= datetime(2150, 3, 2, 10) + timedelta(hours=Mimic3Options().after_hours)


def test_a_patient_arrives_with_the_emergency_department(tmp_path: Path):
    tables = raw_tables()
    arrival = {"111": "2150-03-01 05:00:00"}
    tables["admissions"] = tables["admissions"].with_columns(
        edregtime=pl.col("hadm_id").replace_strict(arrival, default="")
    )
    stays = read_folder(write_tables(tmp_path / "tables", tables)).tables.stays
    assert stays["hospital_admitted_at"][0] == datetime(2150, 3, 1, 5)
    assert stays["hospital_death"].null_count() == 4


def test_comorbidity_is_that_of_earlier_admissions_only(tmp_path: Path):
    tables = raw_tables()
    patient = {"subject_id": 12, "admission_type": "URGENT"}
    times = {"admittime": "2158-01-01 00:00:00", "dischtime": "2158-01-05 00:00:00"}
    later = {"admittime": "2161-01-01 00:00:00", "dischtime": "2161-01-05 00:00:00"}
    add_rows(tables, "admissions", patient | times | {"hadm_id": 91})
    add_rows(tables, "admissions", patient | later | {"hadm_id": 92})
    codes = [(91, "4280"), (91, "42731"), (91, "25040"), (91, "25000"), (91, "1970"), (91, "1629")]
    codes += [(112, "042"), (92, "3314"), (111, "4280")]
    tables["diagnoses_icd"] = pl.DataFrame(
        {"hadm_id": [str(hadm) for hadm, _ in codes], "icd9_code": [code for _, code in codes]}
    )
    stays = read_folder(write_tables(tmp_path / "tables", tables)).tables.stays
    # Heart failure 2, diabetes with complications 1, metastases 6; 7 + 5 + 0 + 12.
    assert stays["charlson"].to_list() == [None, 9.0, 9.0, None]
    assert stays["elixhauser"].to_list() == [None, 24.0, 24.0, None]


def test_a_folder_without_diagnoses_has_no_comorbidity(result: SourceResult):
    assert result.tables.stays["charlson"].null_count() == 4
