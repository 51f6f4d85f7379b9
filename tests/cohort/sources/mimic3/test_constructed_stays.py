"""Constructed stays, read as raw tables and judged by hand against Sepsis-3.

Singer et al., JAMA 315:801 (2016), doi:10.1001/jama.2016.0287; Seymour et al., JAMA 315:762 (2016),
doi:10.1001/jama.2016.0288.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flowsheet.cohort import divided
from flowsheet.cohort.engine import batches, csv_reader
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.sepsis3 import Sepsis3Labels, label
from tests.cohort.mimic3_folder import RawTables, raw_tables, read_folder, write_tables
from tests.cohort.sources.mimic3.constructed_ward import (
    ADMITTED,
    CAREVUE_CASES,
    CASES,
    Patient,
    add_overlapping_stays,
)


@dataclass
class Ward:
    """The tables and labels of all constructed stays."""

    tables: Tables
    labels: Sepsis3Labels
    numbers: dict[str, int]

    def events(self, case: str, variable: str) -> list[tuple[float, float]]:
        rows = self.tables.events.filter(stay_id=self.numbers[case], variable=variable)
        hours = (rows["time"] - ADMITTED).dt.total_minutes() / 60
        return list(zip(hours, rows["value"], strict=True))

    def sofa(self, case: str, component: str) -> dict[int, int | None]:
        rows = self.labels.sofa.filter(stay_id=self.numbers[case])
        return dict(rows.select("hour", component).iter_rows())

    def suspicions(self, case: str) -> list[float]:
        times = self.labels.suspicions.filter(stay_id=self.numbers[case])["time"]
        return [round(hours, 2) for hours in (times - ADMITTED).dt.total_minutes() / 60]

    def onsets(self, case: str) -> list[tuple[float, bool]]:
        rows = self.tables.episodes.filter(stay_id=self.numbers[case])
        hours = (rows["onset"] - ADMITTED).dt.total_minutes() / 60
        return list(zip(hours, rows["present_on_admission"], strict=True))

    def stay(self, case: str) -> dict[str, Any]:
        return self.tables.stays.filter(stay_id=self.numbers[case]).row(0, named=True)


@dataclass
class WardFolder:
    """The raw tables, and the folder with their files."""

    tables: RawTables
    path: Path
    numbers: dict[str, int]


@pytest.fixture(scope="module")
def ward_folder(tmp_path_factory: pytest.TempPathFactory) -> WardFolder:
    tables = {name: table.clear() for name, table in raw_tables().items()}
    columns = {name: pl.lit("") for name in ("deathtime", "hospital_expire_flag")}
    tables["admissions"] = tables["admissions"].with_columns(**columns)
    numbers = {case: n for n, case in enumerate([*CASES, *CAREVUE_CASES], start=101)}
    for case, build in CASES.items():
        build(Patient(tables, numbers[case]))
    for case, build in CAREVUE_CASES.items():
        build(Patient(tables, numbers[case], "carevue"))
    add_overlapping_stays(tables)
    path = write_tables(tmp_path_factory.mktemp("ward") / "tables", tables, suffix="csv")
    return WardFolder(tables, path, numbers)


@pytest.fixture(scope="module")
def ward(ward_folder: WardFolder, tmp_path_factory: pytest.TempPathFactory) -> Ward:
    labels: list[Sepsis3Labels] = []

    def keep_labels(*arguments: Any) -> Sepsis3Labels:
        labels.append(label(*arguments))
        return labels[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(batches, "label", keep_labels)
        result = read_folder(ward_folder.path)
    return Ward(result.tables, labels[0], ward_folder.numbers)


@pytest.mark.parametrize("organ", ["vasopressor", "liver", "platelets", "kidneys", "coma"])
def test_a_patient_who_arrives_septic_has_an_episode_that_was_present(ward: Ward, organ: str):
    ((onset, was_present),) = ward.onsets(f"septic on arrival: {organ}")
    assert onset <= 4
    assert was_present


def test_sepsis_is_infection_with_organ_dysfunction(ward: Ward):
    assert ward.onsets("infected, healthy") == []
    assert ward.onsets("shock, not infected") == []
    assert ward.onsets("later shock") == [(9.0, False)]


@pytest.mark.parametrize("step", [8, 12, 16])
def test_anuria_is_scored_however_often_it_is_charted(ward: Ward, step: int):
    renal = ward.sofa(f"anuria every {step} h", "renal")
    assert renal[20] == 0
    assert all(renal[hour] == 4 for hour in range(49, 61))
    assert set(ward.sofa("urine every 8 h", "renal").values()) <= {0, None}


def test_urine_that_is_stored_late_and_irrigant_are_no_oliguria_and_no_urine(ward: Ward):
    late = ward.sofa("urine that is stored late", "renal")
    assert max(score or 0 for score in late.values()) == 0
    irrigated = ward.sofa("irrigated bladder", "renal")
    assert irrigated[40] == 4


@pytest.mark.parametrize("system", ["MetaVision", "CareVue"])
def test_dialysis_is_kidney_failure_in_both_chart_systems(ward: Ward, system: str):
    renal = ward.sofa(f"dialysis, {system}", "renal")
    assert [renal[hour] for hour in (8, 40, 60, 90)] == [4] * 4


def test_a_venous_gas_does_not_grade_the_lungs(ward: Ward):
    assert set(ward.sofa("venous gas", "respiration").values()) == {None}
    assert ward.sofa("arterial gas", "respiration")[10] == 4


def test_coma_scores_zeros_pounds_and_doses_are_plausible(ward: Ward):
    assert ward.sofa("coma, parts 3 minutes apart", "cns")[10] == 4
    assert set(ward.sofa("coma, parts 40 minutes apart", "cns").values()) == {None}
    assert set(ward.sofa("zeros", "cardiovascular").values()) == {None}
    assert 0 not in [value for _, value in ward.events("zeros", "hr")]
    weights = [round(value, 1) for _, value in ward.events("pounds", "weight")]
    assert weights == [90.0, 89.8]
    propofol = ward.tables.treatments.filter(drug="propofol")
    assert propofol["dose"].to_list() == [None]


def test_death_ends_the_stay_and_confirms_a_course(ward: Ward):
    case = "one dose, then death before discharge"
    died_at = ADMITTED + timedelta(hours=22)
    assert ward.stay(case)["discharged_at"] == ward.stay(case)["died_at"] == died_at
    assert max(hour for hour in ward.sofa(case, "total")) == 22
    assert ward.suspicions(case) == [1.0]
    assert ward.onsets("one dose, then death") == [(1.0, True)]
    assert ward.suspicions("one dose") == []


def test_care_that_is_limited_to_comfort_is_known(ward: Ward):
    stay = ward.stay("comfort measures")
    assert stay["comfort_measures_at"] == ADMITTED + timedelta(hours=20.5)


def test_suspicion_is_dated_by_doses_and_cultures_and_not_before_arrival(ward: Ward):
    assert ward.suspicions("order and dose")[0] == 28
    assert ward.suspicions("order on arrival")[0] == -2
    assert ward.suspicions("screen, then culture")[0] == 19
    # The order of culture and dose of one day is not known; before the next day's dose the
    # culture was taken, at some time from midnight on.
    assert ward.suspicions("culture without a time") == [14, 30]


def test_stays_of_one_admission_that_overlap_share_no_row(ward: Ward):
    of_both = ward.tables.events.filter(pl.col("stay_id").is_in([901, 902]))
    creatinine = of_both.filter(variable="crea").select("stay_id", "value").rows()
    assert creatinine == [(901, 1.0), (902, 3.0), (902, 4.0)]
    charted = of_both.filter(~pl.col("variable").str.contains("urine|fluid|equivalents"))
    assert not charted.select("time", "variable").is_duplicated().any()


def assert_same(tables: Tables, expected: Tables) -> None:
    for name in TABLES:
        rows = getattr(tables, name).sort(pl.all())
        assert rows.equals(getattr(expected, name).sort(pl.all())), name


@pytest.mark.parametrize(("size", "threads"), [(6, 1), (9, 4)])
def test_the_rows_depend_neither_on_batches_nor_on_threads(
    ward_folder: WardFolder, ward: Ward, monkeypatch: pytest.MonkeyPatch, size: int, threads: int
):
    monkeypatch.setattr(divided, "_BUILDER_THREADS", threads)
    monkeypatch.setattr(csv_reader, "_PARSER_THREADS", threads)
    monkeypatch.setattr(csv_reader, "_BLOCK_BYTES", 20_000)
    assert_same(read_folder(ward_folder.path, stays_per_batch=size).tables, ward.tables)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_rows_do_not_depend_on_the_order_of_the_raw_rows(
    ward_folder: WardFolder, ward: Ward, tmp_path: Path, seed: int
):
    shuffled = {
        name: table.sample(fraction=1, shuffle=True, seed=seed)
        for name, table in ward_folder.tables.items()
    }
    folder = write_tables(tmp_path / "tables", shuffled, suffix="csv")
    assert_same(read_folder(folder, stays_per_batch=3).tables, ward.tables)


def digest(tables: Tables) -> str:
    """Of all rows of the four tables, in their order."""
    rows = "".join(getattr(tables, name).write_csv() for name in TABLES)
    return hashlib.sha256(rows.encode()).hexdigest()


def test_the_rows_do_not_depend_on_the_threads_of_polars(ward_folder: WardFolder, ward: Ward):
    program = (
        "from pathlib import Path; from tests.cohort.mimic3_folder import read_folder;"
        "from tests.cohort.sources.mimic3.test_constructed_stays import digest;"
        f"print(digest(read_folder(Path({str(ward_folder.path)!r})).tables))"
    )
    environment = os.environ | {"POLARS_MAX_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert result.stdout.decode().strip() == digest(ward.tables)
