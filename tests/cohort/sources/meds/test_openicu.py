"""OpenICU's harmonised output: concepts by name, one file each, of several databases."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort.extract import Extract
from flowsheet.errors import CheckFailed
from flowsheet.testing import meds
from tests.cohort.sources.meds.conftest import Row, at, make_row, run_ingest


def make_concepts(subject: int, database: str = "hirid") -> list[Row]:
    """Two days of hourly heart rates, a pause of two days, and a third day."""
    day = [f"2150-03-{day:02d}" for day in range(1, 6)]
    hours = [f"{day[d]}T{hour:02d}:00:00" for d in (0, 1, 4) for hour in range(24)]
    rows = [make_row(subject, time, "heart_rate//bpm", 80.0) for time in hours]
    rows += [
        make_row(subject, f"{day[0]}T00:00:00", "patient_age//years", 60.0),
        make_row(subject, f"{day[0]}T00:00:00", "patient_sex//None", text_value="Female"),
        make_row(
            subject, f"{day[0]}T00:00:00", "in_hospital_mortality//boolean", text_value="dead"
        ),
        make_row(subject, f"{day[0]}T03:00:00", "pH_of_blood//None", 7.3),
        make_row(subject, f"{day[0]}T04:00:00", "creatinine//mg/dL", 1.5),
        make_row(subject, f"{day[0]}T05:00:00", "respiratory_rate//insp/min", 20.0),
        make_row(subject, f"{day[0]}T06:00:00", "norepinephrine_rate//mcg/kg/min", 0.1),
        make_row(subject, f"{day[0]}T09:00:00", "norepinephrine_rate//mcg/kg/min", 0.2),
        make_row(subject, f"{day[0]}T10:00:00", "norepinephrine_rate//mcg/kg/min", 0.0),
        make_row(subject, f"{day[0]}T12:00:00", "body_fluid_sampling//boolean", 1.0),
        make_row(subject, f"{day[0]}T13:00:00", "antibiotics//boolean"),
        make_row(subject, f"{day[1]}T13:00:00", "antibiotics//boolean"),
        make_row(subject, f"{day[0]}T00:00:00", "mechanical_ventilation_windows//boolean", 1.0),
        make_row(subject, f"{day[1]}T02:00:00", "mechanical_ventilation_windows//boolean", 0.0),
    ]
    return [{**row, "dataset": database} for row in rows]


def write_concepts(root: Path, rows: list[Row]) -> Path:
    """A file for each concept and database, as OpenICU writes them."""
    schema = {name: meds.SCHEMA[name] for name in ("subject_id", "time", "code")}
    schema |= {"numeric_value": pl.Float64(), "text_value": pl.String(), "dataset": pl.String()}
    frame = pl.DataFrame(
        [{**row, "time": at(row["time"])} for row in rows], schema=schema, orient="row"
    )
    concept = pl.col("code").str.split("//").list.first()
    parts = frame.with_columns(concept=concept).partition_by("concept", "dataset", as_dict=True)
    shards = {f"{c}/1.0.0/{d}": part.drop("concept") for (c, d), part in parts.items()}
    return meds.write_data_set(root, shards)


@pytest.fixture(scope="module")
def extract(tmp_path_factory: pytest.TempPathFactory) -> Extract:
    folder = tmp_path_factory.mktemp("openicu")
    root = write_concepts(folder / "raw", make_concepts(1) + make_concepts(2))
    return run_ingest(root, folder / "out", sepsis3={})


def test_stays_are_runs_of_vital_signs(extract: Extract):
    stays = extract.tables().stays.sort("stay_id")
    assert stays.select("subject_id", "admitted_at", "discharged_at").rows()[:2] == [
        (1, at("2150-03-01"), at("2150-03-02T23:00")),
        (1, at("2150-03-05"), at("2150-03-05T23:00")),
    ]
    assert stays["sex"].unique().to_list() == ["F"]
    assert stays["age"].to_list() == pytest.approx([60.0, 60.01, 60.0, 60.01], abs=0.005)
    (warning,) = [w for w in extract.manifest.warnings if "admissions to intensive care" in w]
    assert "the 4 stays are runs of vital signs" in warning


def test_a_patient_who_died_did_so_at_the_end_of_the_record(extract: Extract):
    stays = extract.tables().stays.sort("stay_id")
    assert stays["hospital_death"].to_list() == [True] * 4
    assert stays["died_at"].to_list() == [at("2150-03-05T23:00")] * 4  # nobody dies twice


def test_who_survived_one_admission_may_die_in_the_next(tmp_path: Path):
    code = "in_hospital_mortality//boolean"
    first = [row for row in make_concepts(1) if row["code"] != code]
    hours = [f"2150-05-02T{hour:02d}:00:00" for hour in range(24)]
    second = [make_row(1, time, "heart_rate//bpm", 80.0) for time in hours]
    ends = [
        make_row(1, "2150-03-01T00:00:00", code, text_value="alive"),
        make_row(1, "2150-05-01T20:00:00", code, text_value="dead"),
    ]
    rows = first + [{**row, "dataset": "hirid"} for row in second + ends]
    stays = run_ingest(write_concepts(tmp_path / "raw", rows), tmp_path / "out").tables().stays
    stays = stays.sort("stay_id")
    assert stays["hospital_death"].to_list() == [False, False, True]
    assert stays["died_at"].to_list() == [None, None, at("2150-05-02T23:00")]


def test_concepts_are_variables(extract: Extract):
    events = extract.tables().events.filter(stay_id=1)
    values = dict(events.group_by("variable").agg(pl.col("value").first()).iter_rows())
    assert (values["ph"], values["crea"], values["resp"], values["hr"]) == (7.3, 1.5, 20.0, 80.0)
    ventilation = events.filter(variable="vent").sort("time")
    hours = ventilation["time"].diff().dt.total_hours().to_list()
    assert hours == [None, 4, 4, 4, 4, 4, 4, 2]  # from 00:00 to 02:00 of the next day
    assert ventilation["value"].to_list() == [1.0] * 7 + [0.0]


def test_a_rate_holds_until_the_next_and_zero_is_a_stop(extract: Extract):
    doses = extract.tables().treatments.filter(stay_id=1, drug="norepinephrine")
    assert doses.sort("start").select("start", "end", "dose").rows() == [
        (at("2150-03-01T06:00"), at("2150-03-01T09:00"), pytest.approx(6.0)),
        (at("2150-03-01T09:00"), at("2150-03-01T10:00"), pytest.approx(12.0)),
    ]


def test_sampled_fluids_and_antibiotics_without_a_name_are_suspicion(extract: Extract):
    counts = dict(extract.manifest.source_counts)
    assert counts["stays with suspected infection"] == 2


def test_a_database_without_cultures_has_no_sepsis(tmp_path: Path):
    rows = [row for row in make_concepts(1) if "body_fluid" not in row["code"]]
    root = write_concepts(tmp_path / "raw", rows)
    with pytest.raises(CheckFailed, match="no stay has cultures"):
        run_ingest(root, tmp_path / "out", sepsis3={}, allow_empty=False)


def test_one_of_several_databases_must_be_chosen(tmp_path: Path):
    rows = make_concepts(1) + make_concepts(1, database="eicu-crd")
    root = write_concepts(tmp_path / "raw", rows)
    with pytest.raises(CheckFailed, match="several databases: eicu-crd, hirid") as error:
        run_ingest(root, tmp_path / "out")
    assert "cohort.options.database=hirid" in error.value.todo
    stays = run_ingest(root, tmp_path / "out", database="hirid").tables().stays
    assert stays["stay_id"].to_list() == [1, 2]
    with pytest.raises(CheckFailed, match="no row of the database 'mimic'"):
        run_ingest(root, tmp_path / "out", database="mimic")
