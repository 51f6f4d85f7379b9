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
from flowsheet.errors import CheckFailed
from flowsheet.testing.sources import SourceConformance
from tests.cohort.clif_folder import clif_tables, make_clif, read_clif, write_clif
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


def test_two_orders_of_one_drug_run_side_by_side(tables: RawTables, tmp_path: Path):
    continuous = tables["clif_medication_admin_continuous"]
    other = continuous.head(1).with_columns(
        med_order_id=pl.lit("o2"), admin_dttm=pl.lit("2160-01-01 18:00:00Z")
    )
    tables["clif_medication_admin_continuous"] = pl.concat([continuous, other])
    treatments = read_clif(write_clif(tmp_path, tables), continuous_hours=2).tables.treatments
    starts = treatments.filter(drug="norepinephrine").select("start", "end").rows()
    assert starts == [(day(16), day(18)), (day(18), day(20)), (day(22), day(0, 2))]


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


@pytest.mark.parametrize(
    ("unit", "dose"), [("ng/kg/min", 0.006), ("mcg/kg/hr", 0.1), ("mL/hr", None)]
)
def test_doses_have_units_or_are_unknown_by_name(
    tables: RawTables, tmp_path: Path, unit: str, dose: float | None
):
    name = "clif_medication_admin_continuous"
    tables[name] = tables[name].with_columns(med_dose_unit=pl.lit(unit))
    result = read_clif(write_clif(tmp_path, tables))
    doses = result.tables.treatments.filter(drug="norepinephrine")["dose"].to_list()
    assert doses[0] == (None if dose is None else pytest.approx(dose))
    reason = f"{name}: dose not known by its unit: norepinephrine in ml/hr (rows kept)"
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
