"""The records of the challenge as a source: their meaning, and the policies of a cohort."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.schema import EPOCH
from flowsheet.cohort.sources.base import Source
from flowsheet.compose import compose_cohort
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.testing import psv
from flowsheet.testing.sources import SourceConformance
from tests.cohort.sources.physionet2019.conftest import (
    list_names,
    open_source,
    run_ingest,
    set_cell,
    write_zip,
)


class TestPhysioNet2019(SourceConformance):
    def make_source(self, folder: Path) -> Source:
        return open_source(psv.write_patients(folder))

    def make_shuffled(self, folder: Path) -> Source:
        psv.write_patients(folder)
        return open_source(write_zip(folder, list_names(folder)[::-1]))

    def make_changed(self, folder: Path) -> Source:
        psv.write_patients(folder)
        psv.write_patient(folder, 1, set_cell(psv.patient_rows(1), 4, "HR", "61.5"))
        return open_source(folder)


def test_the_times_and_demographics_of_a_stay(tmp_path: Path):
    stays = run_ingest(psv.write_patients(tmp_path / "raw"), tmp_path / "out").tables().stays
    stay = stays.filter(stay_id=3).row(0, named=True)
    assert stay["admitted_at"] == EPOCH
    assert stay["observed_from"] == EPOCH + timedelta(hours=4)
    assert stay["discharged_at"] == EPOCH + timedelta(hours=16)
    assert stay["hospital_admitted_at"] == EPOCH - timedelta(hours=5, minutes=15)
    assert (stay["sex"], stay["unit"], stay["site"], stay["age"]) == ("M", "MICU", "A", 63.5)
    assert stays.filter(stay_id=2).select("sex", "observed_from").row(0) == ("F", None)


def test_a_measurement_is_true_and_known_at_the_end_of_its_hour(tmp_path: Path):
    events = run_ingest(psv.write_patients(tmp_path / "raw"), tmp_path / "out").tables().events
    assert events.filter(stay_id=3)["time"].min() == EPOCH + timedelta(hours=5)
    assert events["time"].equals(events["known_at"].alias("time"))


def test_onset_is_six_hours_after_the_first_label(tmp_path: Path):
    raw = psv.write_patients(tmp_path / "raw")
    onset = EPOCH + timedelta(hours=8 + 6)
    known_at = onset + timedelta(hours=168)
    episodes = run_ingest(raw, tmp_path / "out").tables().episodes
    assert episodes.rows() == [(2, "sepsis", onset, None, known_at, None)]


def test_an_episode_is_known_after_the_declared_hours(tmp_path: Path):
    raw = psv.write_patients(tmp_path / "raw")
    (batch,) = open_source(raw, label_known_after_hours=1).batches()
    (episode,) = batch.episodes.to_dicts()
    assert episode["known_at"] == episode["onset"] + timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "percent"),
    [("0.21", 21.0), ("0.28", 28.0), ("1", 100.0), ("50", 50.0), ("0", 0.0), ("10", 10.0)],
)
def test_fio2_is_converted_to_percent(tmp_path: Path, text: str, percent: float):
    psv.write_patient(tmp_path, 1, set_cell(psv.patient_rows(1, hours=1), 0, "FiO2", text))
    (batch,) = open_source(tmp_path).batches()
    assert batch.events.filter(variable="fio2")["value"].to_list() == [percent]


def test_the_patient_s_number_determines_the_site(tmp_path: Path):
    for patient in (1, 100_001, 200_001):
        psv.write_patient(tmp_path, patient, psv.patient_rows(patient))
    (batch,) = open_source(tmp_path).batches()
    assert batch.stays["site"].to_list() == ["A", "B", "unknown"]


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("HR", "fast", "number"),
        ("HR", "80,5", "number"),
        ("HR", "5000", "plausible_range"),
        ("HR", "inf", "finite"),
        ("HR", "-1", "plausible_range"),
        ("FiO2", "0.04", "plausible_range"),
    ],
)
def test_an_invalid_measurement_is_quarantined_alone(
    tmp_path: Path, column: str, value: str, rule: str
):
    raw = psv.write_patients(tmp_path / "raw")
    before = run_ingest(raw, tmp_path / "before").manifest.counts
    psv.write_patient(raw, 1, set_cell(psv.patient_rows(1), 4, column, value))
    extract = run_ingest(raw, tmp_path / "after")
    (row,) = pl.read_parquet(extract.path / "quarantine.parquet").to_dicts()
    assert (row["table"], row["rule"]) == ("events", rule)
    assert "stay 1" in row["key"] or row["key"] == "p000001.psv row 5 (line 6)"
    assert extract.manifest.counts == before | {"events": before["events"] - 1}


def test_a_patient_without_measurements_is_quarantined_with_its_episode(tmp_path: Path):
    raw = psv.write_patients(tmp_path / "raw")
    without_measurements = [["NaN"] * 34 + row[34:] for row in psv.patient_rows(9, septic_from=3)]
    psv.write_patient(raw, 9, without_measurements)
    manifest = run_ingest(raw, tmp_path / "out").manifest
    quarantined = {(entry.table, entry.rule): entry.rows for entry in manifest.quarantined}
    assert quarantined == {
        ("stays", "stay_without_events"): 1,
        ("episodes", "stay_quarantined"): 1,
    }
    assert dict(manifest.attrition)["have measurements"] == 4


def test_two_files_of_one_patient_are_both_quarantined(tmp_path: Path):
    raw = psv.write_patients(tmp_path / "raw" / "a").parent
    psv.write_patient(raw / "b", 1, psv.patient_rows(1))
    extract = run_ingest(raw, tmp_path / "out")
    quarantined = pl.read_parquet(extract.path / "quarantine.parquet")
    assert quarantined["key"].to_list() == ["a/p000001.psv", "b/p000001.psv"]
    assert set(quarantined["rule"]) == {"one_file_a_patient"}
    assert extract.manifest.counts["stays"] == 3


def test_a_psv_file_without_a_number_is_quarantined(tmp_path: Path):
    raw = psv.write_patients(tmp_path / "raw")
    (raw / "patient.psv").write_text(psv.format_psv(psv.patient_rows(9)), encoding="utf-8")
    quarantined = run_ingest(raw, tmp_path / "out").manifest.quarantined
    assert [entry.rule for entry in quarantined] == ["file_name"]


def test_a_rule_may_be_declared_to_reject_the_cohort(tmp_path: Path):
    raw = psv.write_patients(tmp_path / "raw")
    psv.write_patient(raw, 1, set_cell(psv.patient_rows(1), 4, "HR", "5000"))
    with pytest.raises(CheckFailed, match=r"plausible_range[\s\S]*stay 1[\s\S]*5000"):
        run_ingest(raw, tmp_path / "out", plausible_range="reject")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quarantine": {"rules": {"mising_hour": "reject"}}}, "missing_hour"),
        ({"options": {"label_known_after": 3}}, "label_known_after_hours"),
    ],
)
def test_a_mistyped_rule_or_option_is_refused_with_a_suggestion(tmp_path: Path, fields, message):
    with pytest.raises(UsageError, match=message):
        make_source(psv.cohort_config(tmp_path, **fields))


def test_a_missing_path_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"cohort\.path"):
        make_source(psv.cohort_config(None))
    with pytest.raises(UsageError, match="do not exist"):
        make_source(psv.cohort_config(tmp_path / "nowhere"))


@pytest.mark.realdata
@pytest.mark.slow
def test_the_whole_training_set_a(data_dir: Path, tmp_path: Path):
    path = data_dir / "physionet2019" / "training_setA.zip"
    config = compose_cohort("physionet2019", [f"cohort.path={path}"])
    manifest = ingest(make_source(config), config, tmp_path / "out", lambda line: None).manifest
    assert manifest.counts["stays"] == 20_336
    assert manifest.counts["hours"] == 790_215
    assert manifest.counts["stays_with_episode"] == 1_790
    assert manifest.quarantined_share["events"] < 0.001
    assert {entry.rule for entry in manifest.quarantined} == {"plausible_range"}
