"""Stays from admissions, discharges and demographics."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flowsheet.errors import CheckFailed
from tests.cohort.sources.meds.conftest import (
    Row,
    at,
    make_row,
    make_rows,
    run_ingest,
    write_data_set,
)


def test_a_stay_has_the_demographics_of_its_subject(tmp_path: Path):
    extract = run_ingest(write_data_set(tmp_path / "raw", make_rows()), tmp_path / "out")
    stay = extract.tables().stays.filter(subject_id=1).row(0, named=True)
    assert stay["stay_id"] == 499
    assert stay["admitted_at"] == at("2150-03-01T08:00")
    assert stay["discharged_at"] == at("2150-03-03T08:00")
    assert stay["hospital_admitted_at"] == at("2150-03-01T06:00")
    assert (stay["sex"], stay["unit"], stay["admission_type"]) == ("F", "MICU", "URGENT")
    assert stay["age"] == pytest.approx(60.0, abs=0.01)


def test_without_ids_a_stay_ends_with_the_next_discharge(tmp_path: Path):
    second_stay = [
        make_row(1, "2150-03-09T08:00:00", "ICU_ADMISSION//SICU//x"),
        make_row(1, "2150-03-10T08:00:00", "LAB//220045//bpm", 70.0),
        make_row(1, "2150-03-11T08:00:00", "ICU_DISCHARGE//UNK"),
    ]
    root = write_data_set(tmp_path / "raw", make_rows(ids=False) + second_stay)
    tables = run_ingest(root, tmp_path / "out").tables()
    assert tables.stays.select("stay_id", "subject_id", "unit").rows()[:3] == [
        (1, 1, "MICU"),
        (2, 1, "SICU"),
        (3, 2, "MICU"),
    ]
    assert tables.events.filter(value=70.0)["stay_id"].to_list() == [2]


DEFECTS: dict[str, tuple[bool, list[Row], str]] = {
    "no discharge": (
        True,
        [make_row(9, "2150-01-01T00:00:00", "ICU_ADMISSION//MICU", icustay_id=9)],
        "admission_without_discharge",
    ),
    "no admission": (
        True,
        [make_row(9, "2150-01-01T00:00:00", "ICU_DISCHARGE//MICU", icustay_id=9)],
        "discharge_without_admission",
    ),
    "two admissions": (
        True,
        [
            make_row(9, "2150-01-01T00:00:00", "ICU_ADMISSION//MICU", icustay_id=9),
            make_row(9, "2150-01-02T00:00:00", "ICU_ADMISSION//MICU", icustay_id=9),
        ],
        "icu_admission_twice",
    ),
    "no time": (True, [make_row(9, None, "ICU_ADMISSION//MICU", icustay_id=9)], "admission_time"),
    "no discharge, without ids": (
        False,
        [make_row(9, "2150-01-01T00:00:00", "ICU_ADMISSION//MICU")],
        "admission_without_discharge",
    ),
    "no admission, without ids": (
        False,
        [make_row(9, "2150-01-01T00:00:00", "ICU_DISCHARGE//MICU")],
        "discharge_without_admission",
    ),
}


@pytest.mark.parametrize("case", DEFECTS)
def test_unusable_admissions_and_discharges_are_quarantined(tmp_path: Path, case: str):
    ids, rows, rule = DEFECTS[case]
    root = write_data_set(tmp_path / "raw", make_rows(ids=ids) + rows)
    extract = run_ingest(root, tmp_path / "out")
    quarantined = pl.read_parquet(extract.path / "quarantine.parquet").filter(rule=rule)
    assert quarantined.height == len(rows)
    assert quarantined["key"].str.starts_with("subject 9, ").all()
    assert extract.manifest.counts["stays"] == 4
    with pytest.raises(CheckFailed, match=rule):
        run_ingest(root, tmp_path / "strict", max_share=0.02)


def test_a_discharge_before_the_admission_with_its_id_breaks_the_contract(tmp_path: Path):
    reversed_stay = [
        make_row(9, "2150-01-02T00:00:00", "ICU_ADMISSION//MICU", icustay_id=9),
        make_row(9, "2150-01-01T00:00:00", "ICU_DISCHARGE//MICU", icustay_id=9),
    ]
    root = write_data_set(tmp_path / "raw", make_rows() + reversed_stay)
    manifest = run_ingest(root, tmp_path / "out").manifest
    assert "admitted_before_discharged" in [entry.rule for entry in manifest.quarantined]
    assert manifest.counts["stays"] == 4
