"""MIMIC-III's raw tables as a source: its conformance, the forms of its files, and its extract."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort import spill
from flowsheet.cohort.ingest import ingest
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.sources.base import Source
from flowsheet.config import CohortConfig
from flowsheet.errors import CheckFailed
from flowsheet.testing.sources import SourceConformance
from tests.cohort.mimic3_folder import (
    SourceResult,
    make_source,
    raw_tables,
    read_folder,
    write_tables,
)


class TestConformance(SourceConformance):
    @pytest.fixture(autouse=True)
    def _use_shared_folder(self, shared_folder: Path) -> None:
        self.shared_folder = shared_folder

    def make_source(self, folder: Path) -> Source:
        shutil.copytree(self.shared_folder, folder / "tables", dirs_exist_ok=True)
        return make_source(folder / "tables", stays_per_batch=2)

    def make_shuffled(self, folder: Path) -> Source:
        shuffled = {
            name: table.sample(fraction=1, shuffle=True, seed=3)
            for name, table in raw_tables().items()
        }
        return make_source(write_tables(folder / "tables", shuffled), stays_per_batch=2)

    def make_changed(self, folder: Path) -> Source:
        changed = raw_tables()
        value = pl.col("valuenum").str.replace("1.4", "1.5")
        changed["labevents"] = changed["labevents"].with_columns(value)
        return make_source(write_tables(folder / "tables", changed), stays_per_batch=2)


def assert_same_rows(tables: Tables, expected: Tables) -> None:
    for name in TABLES:
        rows = getattr(tables, name).sort(pl.all())
        assert rows.equals(getattr(expected, name).sort(pl.all())), name


@pytest.mark.parametrize(
    ("suffix", "upper"), [("csv", True), ("csv.gz", False), ("parquet", True), ("parquet", False)]
)
def test_every_form_of_the_files_gives_the_same_rows(
    result: SourceResult, tmp_path: Path, suffix: str, upper: bool
):
    folder = write_tables(tmp_path / "tables", raw_tables(), suffix=suffix, upper=upper)
    other = read_folder(folder)
    assert_same_rows(other.tables, result.tables)
    assert other.excluded == result.excluded


def test_files_of_other_programs_are_read(result: SourceResult, tmp_path: Path):
    """A byte order mark, quoted headers, line ends of another system, ids with a decimal point."""
    tables = raw_tables()
    ids = ("subject_id", "hadm_id", "icustay_id")
    for name, table in tables.items():
        present = [column for column in ids if column in table.columns]
        tables[name] = table.with_columns(pl.col(present) + ".0")
    folder = write_tables(tmp_path / "tables", tables, suffix="csv")
    for file in folder.iterdir():
        header, *lines = file.read_text(encoding="utf-8").splitlines()
        quoted = ",".join(f'"{name}"' for name in header.split(","))
        file.write_bytes(("\ufeff" + "\r\n".join([quoted, *lines]) + "\r\n").encode())
    other = read_folder(folder)
    assert other.tables.events.equals(result.tables.events)
    treatments = other.tables.treatments.sort(pl.all())
    assert treatments.equals(result.tables.treatments.sort(pl.all()))


def test_tables_without_rows_are_allowed(tmp_path: Path):
    tables = raw_tables()
    inputs = ("prescriptions", "inputevents_cv", "inputevents_mv")
    for name in (*inputs, "microbiologyevents", "procedureevents_mv"):
        tables[name] = tables[name].clear()
    other = read_folder(write_tables(tmp_path / "tables", tables, suffix="csv"))
    assert other.tables.stays.height == 4
    assert other.tables.treatments.is_empty()
    assert other.batches[0].defects.is_empty()


def test_rows_that_are_spilled_to_disk_are_the_same_and_nothing_is_left_behind(
    result: SourceResult,
    shared_folder: Path,
    flowsheet_home: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(spill, "_ROWS_TO_PARTITION", 5)
    monkeypatch.setattr(spill, "_MEMORY_LIMIT", 1000)
    killed = flowsheet_home / "spill" / "killed"
    killed.mkdir(parents=True)
    killed.with_suffix(".lock").touch()
    other = read_folder(shared_folder, stays_per_batch=1)
    assert_same_rows(other.tables, result.tables)
    assert not list((flowsheet_home / "spill").iterdir())


def test_a_folder_of_which_no_stay_is_selected_is_refused(shared_folder: Path, tmp_path: Path):
    config = CohortConfig(name="old", source="mimic3")
    with pytest.raises(CheckFailed, match="no stay is left"):
        ingest(
            make_source(shared_folder, min_age=100),
            config,
            tmp_path / "extract",
            lambda line: None,
        )


def test_the_manifest_has_the_prevalence_the_counts_and_the_options(
    shared_folder: Path, tmp_path: Path
):
    config = CohortConfig(name="small", source="mimic3", allow_empty=True)
    source = make_source(shared_folder)
    manifest = ingest(source, config, tmp_path / "extract", lambda line: None).manifest
    stays = {(entry.by, entry.group): entry.stays for entry in manifest.prevalence}
    assert stays["all", "all"] == 4
    assert stays["site", "carevue"] == 1
    assert stays["site", "metavision"] == 3
    assert stays["unit", "CCU"] == 1
    assert sum(n for (by, _), n in stays.items() if by == "admission order") == 4
    assert dict(manifest.source_counts)["stays"] == 4
    assert manifest.source.options["sepsis3"]["criterion"] == "rise"
    agreement = manifest.definition_agreement
    assert {entry.stays for entry in agreement} == {4}
    assert ("this cohort", "mimic_code") in {(row.definition, row.other) for row in agreement}
