"""What CLIF's tables have that those of other databases have not, on a small folder."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flowsheet.cli import main
from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import TABLES
from flowsheet.cohort.sources.clif import Clif
from flowsheet.config import Policy
from flowsheet.errors import CheckFailed
from flowsheet.testing.sources import SourceConformance
from tests.cohort.clif_folder import (
    clif_tables,
    ingest_clif,
    make_clif,
    read_clif,
    write_clif,
)
from tests.cohort.mimic3_folder import RawTables, SourceResult

pytestmark = pytest.mark.usefixtures("flowsheet_home")


def day(hour: float, number: int = 1) -> datetime:
    return datetime(2160, 1, number, int(hour), round(hour % 1 * 60))


@pytest.fixture
def tables() -> RawTables:
    return clif_tables()


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SourceResult:
    folder = write_clif(tmp_path_factory.mktemp("clif"), clif_tables(), "parquet")
    return read_clif(folder, sepsis3={"confirm_after_hours": 0})


def get_events(result: SourceResult, variable: str, *columns: str) -> list[Any]:
    return result.tables.events.filter(variable=variable).select(*columns).rows()


def test_units_that_follow_each_other_are_one_stay(result: SourceResult):
    stays = result.tables.stays
    ids, of_first = stays["stay_id"], stays.filter(unit="medical_icu")
    assert stays.height == 3
    assert stays["subject_id"].n_unique() == 2
    times = stays.select("admitted_at", "discharged_at").rows()
    assert (day(15), day(15, 3)) in times
    assert (day(15, 5), day(15, 6)) in times
    assert (ids % 100).sort().to_list() == [1, 1, 2]
    assert of_first.height == 3


def test_a_person_has_age_sex_and_death(result: SourceResult):
    stays = result.tables.stays.unique("subject_id").sort("age")
    assert stays.select("age", "sex", "hospital_death").rows() == [
        (64.0, "F", False),
        (70.0, "M", True),
    ]
    assert stays["died_at"].to_list() == [None, day(18, 5)]
    comfort = result.tables.stays["comfort_measures_at"].drop_nulls()
    assert comfort.to_list() == [day(12, 4)]


def test_who_expired_without_a_time_died_at_the_discharge(tables: RawTables, tmp_path: Path):
    no_time = pl.lit(None, pl.String)
    tables["clif_patient"] = tables["clif_patient"].with_columns(death_dttm=no_time)
    stays = read_clif(write_clif(tmp_path, tables)).tables.stays
    assert stays["hospital_death"].to_list() == [False, False, True]
    assert stays["died_at"].to_list() == [None, None, day(18, 5)]


def test_a_result_is_known_when_it_was_reported_and_has_the_catalogues_unit(result: SourceResult):
    columns = ("time", "known_at", "value")
    assert get_events(result, "crea", *columns) == [(day(16), day(17.5), 1.4)]
    assert get_events(result, "tnt", "value") == [(0.03,)]
    assert get_events(result, "cai", "value")[0][0] == pytest.approx(1.118, abs=5e-4)
    sampled, known, _ = get_events(result, "plt", *columns)[0]
    assert sampled < known


def test_devices_and_settings_are_events(result: SourceResult):
    columns = ("time", "value")
    assert get_events(result, "vent", *columns) == [(day(16), 1), (day(16, 2), 0), (day(12, 2), 0)]
    assert get_events(result, "fio2", "value") == [(50.0,), (60.0,)]
    assert get_events(result, "o2_device", "value") == [(6.0,), (1.0,), (4.0,)]
    assert get_events(result, "rrt", *columns) == [(day(12, 3), 1)]


def test_an_intubated_patient_has_no_verbal_response(result: SourceResult):
    assert get_events(result, "egcs", "value") == [(2.0,)]
    assert get_events(result, "vgcs", "value") == []
    assert get_events(result, "gcs", "value") == [(14.0,)]


def test_a_rate_lasts_until_the_next_row_of_its_order(result: SourceResult):
    infusions = result.tables.treatments.filter(drug="norepinephrine")
    assert infusions.select("start", "end", pl.col("dose").round(6)).rows() == [
        (day(16), day(22), 6.0),
        (day(22), day(8, 2), 12.0),
    ]
    doses = result.tables.treatments.filter(drug="cefepime")
    assert doses.select("start", "end", "dose").rows() == [(day(20, 2), day(20, 2), 2000.0)]


def test_suspicion_needs_a_culture_and_stains_are_none(result: SourceResult):
    counts = result.batches[0].source_counts
    assert counts["cultures"] == 2  # of the two stays of one admission
    assert counts["stays with suspected infection"] == 1
    assert result.excluded["clif_microbiology_culture: METHOD_CATEGORY of another kind"] == 1


@pytest.mark.parametrize(("version", "suffix"), [("2.1", "csv"), ("3.0", "csv.gz")])
def test_versions_and_files_give_the_same_rows(
    result: SourceResult, tmp_path: Path, version: str, suffix: str
):
    folder = write_clif(tmp_path, clif_tables(version), suffix)
    other = read_clif(folder, sepsis3={"confirm_after_hours": 0}).tables
    for name in TABLES:
        rows, expected = getattr(other, name), getattr(result.tables, name)
        if name == "stays":  # the race keeps the spelling of its version
            rows, expected = rows.drop("ethnicity"), expected.drop("ethnicity")
        assert rows.equals(expected), name


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_times_become_those_of_the_hospital(tables: RawTables, tmp_path: Path, suffix: str):
    folder = write_clif(tmp_path, tables, suffix)
    events = read_clif(folder, time_zone="Etc/GMT+5").tables.events
    assert events.filter(variable="crea")["time"].to_list() == [day(11)]


def test_times_without_a_zone_are_utc_but_zones_are_not_mixed(tables: RawTables, tmp_path: Path):
    without = {
        name: table.with_columns(pl.all().str.strip_suffix("+00:00"))
        for name, table in tables.items()
    }
    folder = write_clif(tmp_path / "csv", without, "csv")
    events = read_clif(folder, time_zone="Etc/GMT+5").tables.events
    assert events.filter(variable="crea")["time"].to_list() == [day(11)]
    folder = write_clif(tmp_path / "mixed", tables, "parquet")
    file = folder / "clif_labs.parquet"
    labs = pl.read_parquet(file)
    labs.with_columns(pl.col(pl.Datetime).dt.replace_time_zone(None)).write_parquet(file)
    with pytest.raises(CheckFailed, match=r"zone in clif_\w+.parquet and none in clif_labs"):
        read_clif(folder)
    labs.with_columns(pl.col("lab_result_dttm").dt.replace_time_zone(None)).write_parquet(file)
    with pytest.raises(CheckFailed, match="none in clif_labs"):  # one column of a file
        read_clif(folder)


@pytest.mark.parametrize(("route", "n"), [("iv", 1), ("Otic", 0), ("ophthalmic", 0)])
def test_drops_and_ointments_are_no_suspicion(
    tables: RawTables, tmp_path: Path, route: str, n: int
):
    name = "clif_medication_admin_intermittent"
    tables[name] = tables[name].with_columns(med_route_category=pl.lit(route))
    batches = read_clif(write_clif(tmp_path, tables), sepsis3={"confirm_after_hours": 0}).batches
    assert batches[0].source_counts["stays with suspected infection"] == n


def test_an_impossible_zone_is_a_wrong_time(tables: RawTables, tmp_path: Path):
    is_first = pl.int_range(pl.len()) == 0
    wrong = pl.col("recorded_dttm").str.replace("+00:00", "+99:00", literal=True)
    changed = pl.when(is_first).then(wrong).otherwise("recorded_dttm")
    tables["clif_vitals"] = tables["clif_vitals"].with_columns(changed)
    defects = read_clif(write_clif(tmp_path, tables)).batches[0].defects
    assert defects.select("column", "rule", "value").rows() == [
        ("recorded_dttm", "date", "2160-01-01 16:00:00+99:00")
    ]


@pytest.mark.parametrize("rows", [slice(None), slice(3, 4)])
def test_zones_are_not_mixed_in_csv_files(tables: RawTables, tmp_path: Path, rows: slice):
    labs = tables["clif_labs"].with_row_index("row")
    is_chosen = pl.col("row").is_in(labs["row"][rows].implode())
    naive = pl.col("lab_collect_dttm").str.strip_suffix("+00:00")
    changed = pl.when(is_chosen).then(naive).otherwise("lab_collect_dttm")
    tables["clif_labs"] = labs.with_columns(lab_collect_dttm=changed).drop("row")
    with pytest.raises(CheckFailed, match="none in clif_labs"):
        read_clif(write_clif(tmp_path, tables, "csv"))


@pytest.mark.parametrize("typed", [(), ("clif_vitals",), tuple(clif_tables())])
def test_long_ids_are_one_id_as_numbers_and_as_texts(
    tables: RawTables, tmp_path: Path, typed: tuple[str, ...]
):
    ids = {"H-112": "123456789012345678", "H-113": "123456789012345679"}
    has_id = [name for name in tables if "hospitalization_id" in tables[name].columns]
    for name in has_id:
        tables[name] = tables[name].with_columns(pl.col("hospitalization_id").replace(ids))
    folder = write_clif(tmp_path, tables, "parquet")
    for name in set(has_id).intersection(typed):
        file = folder / f"{name}.parquet"
        number = pl.col("hospitalization_id").cast(pl.Int64)
        pl.read_parquet(file).with_columns(number).write_parquet(file)
    result = read_clif(folder)
    assert result.tables.stays["stay_id"].to_list() == [
        *(196941712816856201, 196941712816856202, 405609396679633801)
    ]
    assert get_events(result, "hr", "value") == [(88.0,), (92.0,), (101.0,)]


@pytest.mark.parametrize(
    ("version", "charlson"), [("ICD10CM", 2.0), ("ICD-10-CM", 2.0), ("SNOMED", None), (None, None)]
)
def test_comorbidity_needs_a_known_version_of_the_codes(
    tables: RawTables, tmp_path: Path, version: str | None, charlson: float | None
):
    admissions = tables["clif_hospitalization"]
    earlier = admissions.head(1).with_columns(
        hospitalization_id=pl.lit("H-100"), discharge_dttm=pl.lit("2159-01-09 10:00:00+00:00")
    )
    earlier = earlier.with_columns(admission_dttm=pl.lit("2159-01-01 10:00:00+00:00"))
    tables["clif_hospitalization"] = pl.concat([admissions, earlier])
    code = {"hospitalization_id": "H-100", "diagnosis_code": "I50.9"}
    tables["clif_hospital_diagnosis"] = pl.DataFrame([code | {"diagnosis_code_format": version}])
    stays = read_clif(write_clif(tmp_path, tables)).tables.stays
    assert stays["charlson"].to_list() == [charlson, charlson, None]


def test_rows_without_an_admission_a_time_or_a_dose_are_counted(tables: RawTables, tmp_path: Path):
    locations, first = tables["clif_adt"], tables["clif_adt"].head(1)
    no_text = pl.lit(None, pl.String)
    without = [
        first.with_columns(hospitalization_id=no_text),
        first.with_columns(in_dttm=no_text),
    ]
    tables["clif_adt"] = pl.concat([locations, *without])
    name = "clif_medication_admin_intermittent"
    tables[name] = tables[name].with_columns(med_dose=no_text)
    result = read_clif(write_clif(tmp_path, tables), sepsis3={"confirm_after_hours": 0})
    assert result.tables.stays.height == 3
    assert result.excluded["clif_adt: without an admission"] == 1
    assert result.excluded["clif_adt: without a time"] == 1
    assert result.excluded[f"{name}: no amount or rate"] == 2
    counts = result.batches[0].source_counts
    assert counts["stays with suspected infection"] == 1  # given, although the dose is unknown


def test_a_value_in_another_unit_is_rejected_and_other_specimens_are_not_blood(
    tables: RawTables, tmp_path: Path
):
    labs = tables["clif_labs"]
    is_creatinine = pl.col("lab_category") == "creatinine"
    unit = pl.when(is_creatinine).then(pl.lit("umol/L")).otherwise("reference_unit")
    specimen = pl.when(lab_category=pl.lit("bilirubin_total")).then(pl.lit("pleural"))
    tables["clif_labs"] = labs.with_columns(reference_unit=unit, lab_specimen_category=specimen)
    result = read_clif(write_clif(tmp_path, tables))
    defects = result.batches[0].defects
    assert defects.select("column", "rule", "value").rows() == [
        ("reference_unit", "unit", "umol/L")
    ]
    assert not get_events(result, "crea", "value") + get_events(result, "bili", "value")


def test_unknown_categories_are_counted_by_name(tables: RawTables, tmp_path: Path):
    vitals = tables["clif_vitals"].with_columns(pl.col("vital_category").replace("map", "MBP x"))
    tables["clif_vitals"] = vitals
    patients = tables["clif_patient"].with_columns(pl.col("sex_category").replace("Male", "m."))
    tables["clif_patient"] = patients
    devices = tables["clif_respiratory_support"]
    devices = devices.with_columns(pl.col("device_category").replace("High Flow NC", "HFNC 2"))
    tables["clif_respiratory_support"] = devices
    excluded = read_clif(write_clif(tmp_path, tables)).excluded
    unknown = "clif_respiratory_support: text without a known meaning"
    assert excluded[f"{unknown}: vent: HFNC 2"] == 1
    assert excluded["clif_vitals: items that the catalogue does not map: MBP x"] == 1
    assert excluded["clif_patient: SEX_CATEGORY: m. (rows kept)"] == 1


def test_a_folder_after_the_cohort_is_its_path(
    tables: RawTables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = write_clif(tmp_path / "tables = 1", tables)
    out = tmp_path / "extract"
    main(["ingest", "clif", str(folder), "--out", str(out)])
    printed = capsys.readouterr()
    assert "times of the extract are in UTC" in printed.out + printed.err
    assert Extract.open(out).tables().stays.height == 3


def test_errors_and_quarantine_show_the_ids_of_the_records(tables: RawTables, tmp_path: Path):
    vitals = tables["clif_vitals"]
    unknown = vitals.head(1).with_columns(hospitalization_id=pl.lit(" H-999"))
    tables["clif_vitals"] = pl.concat([vitals, unknown])
    age = pl.col("age_at_admission").replace("64", "640")  # of H-112, with two stays
    tables["clif_hospitalization"] = tables["clif_hospitalization"].with_columns(age)
    for suffix in ("csv", "parquet"):
        folder = write_clif(tmp_path / suffix, tables, suffix)
        extract = ingest_clif(folder, tmp_path / f"{suffix}-extract")
        lines = pl.read_parquet(extract.path / "quarantine.parquet").filter(
            pl.col("rule") != "stay_quarantined"
        )
        shown = lines.select("table", pl.col("key").str.extract("(stay.*)"), "value")
        assert sorted(shown.unique().rows(), key=str) == [
            ("clif_vitals", None, "H-999"),
            ("stays", "stay H-112 #1", "640.0"),
            ("stays", "stay H-112 #2", "640.0"),
        ]
    with pytest.raises(CheckFailed) as refused:
        ingest_clif(folder, tmp_path / "none", Policy.reject)
    assert "H-112 #1" in str(refused.value) or "H-999" in str(refused.value)


def test_a_stay_is_not_named_by_a_patient_of_the_same_number(tables: RawTables, tmp_path: Path):
    hospitalizations = tables["clif_hospitalization"]
    patient = hospitalizations.filter(hospitalization_id="H-112")["patient_id"][0]
    age = pl.col("age_at_admission").replace("64", "640")
    tables["clif_hospitalization"] = hospitalizations.with_columns(age)
    for name, table in tables.items():
        renamed = {"hospitalization_id": ("H-112", "112"), "patient_id": (patient, "0112")}
        columns = [pl.col(key).replace(*renamed[key]) for key in renamed if key in table.columns]
        tables[name] = table.with_columns(columns)
    extract = ingest_clif(write_clif(tmp_path / "raw", tables), tmp_path / "extract")
    lines = pl.read_parquet(extract.path / "quarantine.parquet").filter(column="age")
    assert lines["key"].to_list() == ["stay 11201", "stay 11202"]


@pytest.mark.parametrize(
    ("unit", "dose"),
    [
        ("ng/kg/min", 0.006),
        ("mcg/kg/hr", 0.1),
        ("\N{MICRO SIGN}g/kg/hr", 0.1),
        ("mL/hr", None),
        ("mcg/kg", None),
    ],
)
def test_doses_have_units_or_are_unknown_by_name(
    tables: RawTables, tmp_path: Path, unit: str, dose: float | None
):
    name = "clif_medication_admin_continuous"
    tables[name] = tables[name].with_columns(med_dose_unit=pl.lit(unit))
    result = read_clif(write_clif(tmp_path, tables))
    doses = result.tables.treatments.filter(drug="norepinephrine")["dose"].to_list()
    assert doses[0] == (None if dose is None else pytest.approx(dose))
    spelled = unit.lower()
    reason = f"{name}: dose not known by its unit: norepinephrine in {spelled} (rows kept)"
    assert result.excluded.get(reason, 0) == (2 if dose is None else 0)


class TestClif(SourceConformance):
    """The contract of sources."""

    def make_source(self, folder: Path) -> Clif:
        return make_clif(write_clif(folder, clif_tables()))

    def make_shuffled(self, folder: Path) -> Clif:
        reversed_tables = {name: table.reverse() for name, table in clif_tables().items()}
        return make_clif(write_clif(folder, reversed_tables))

    def make_changed(self, folder: Path) -> Clif:
        tables = clif_tables()
        changed = tables["clif_labs"].with_columns(pl.col("lab_value_numeric").replace("1.4", "2"))
        return make_clif(write_clif(folder, tables | {"clif_labs": changed}))

    @pytest.mark.slow
    def test_damaged_records_are_read_or_rejected_with_an_error(self, tmp_path: Path) -> None:
        super().test_damaged_records_are_read_or_rejected_with_an_error(tmp_path)
