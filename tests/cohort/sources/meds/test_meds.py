"""MEDS data sets as a source."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort import spill
from flowsheet.cohort.sources import meds as module
from flowsheet.cohort.sources.base import Source
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.testing.sources import SourceConformance
from tests.cohort.sources.meds.conftest import (
    STAY_CODES,
    Row,
    at,
    make_row,
    make_rows,
    open_source,
    run_ingest,
    write_data_set,
    write_mapping,
)


class TestMeds(SourceConformance):
    ids = True

    def make_source(self, folder: Path) -> Source:
        return open_source(write_data_set(folder, make_rows(ids=self.ids)))

    def make_shuffled(self, folder: Path) -> Source:
        root = write_data_set(folder, make_rows(ids=self.ids)[::-1], shards=3)
        for file in (root / "data").glob("**/*.parquet"):
            pl.read_parquet(file).sample(fraction=1, shuffle=True, seed=1).write_parquet(file)
        return open_source(root)

    def make_changed(self, folder: Path) -> Source:
        rows = make_rows(ids=self.ids)
        rows[4]["numeric_value"] = 99.0
        return open_source(write_data_set(folder, rows))


class TestNumberedStays(TestMeds):
    ids = False


class TestSmallBatches(TestMeds):
    @pytest.fixture(autouse=True)
    def _use_small_batches(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(module, "STAYS_PER_BATCH", 1)
        monkeypatch.setattr(module, "SUBJECTS_PER_READ", 1)


def test_the_licence_and_the_attrition_are_in_the_manifest(tmp_path: Path):
    root = write_data_set(tmp_path / "raw", make_rows(), licence="ODbL")
    manifest = run_ingest(root, tmp_path / "out").manifest
    assert manifest.source.licence == "ODbL"
    assert manifest.exclusions == ()
    assert dict(manifest.attrition)["intensive care stays"] == 4


def test_codes_that_are_not_in_the_mapping_are_named_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "NAMED_CODES", 1)
    codes = ((1, "ODD//A"), (2, "ODD//A"), (1, "ODD//B"), (1, "C"))
    more = [make_row(subject, "2150-03-01T12:00:00", code) for subject, code in codes]
    extract = run_ingest(write_data_set(tmp_path / "raw", make_rows() + more), tmp_path / "out")
    assert dict(extract.manifest.exclusions) == {
        "the code 'ODD//A' is not in the mapping": 2,
        "2 other codes are not in the mapping": 2,
    }


def test_ignored_codes_are_not_counted(tmp_path: Path):
    more = [make_row(1, "2150-03-01T12:00:00", code) for code in ("ODD//A", "C")]
    root = write_data_set(tmp_path / "raw", make_rows() + more)
    lines = ["LAB//*,variable,hr,,,", "ODD//*,ignore,,,,", "C,ignore,,,,"]
    file = write_mapping(tmp_path, [*STAY_CODES, *lines])
    exclusions = run_ingest(root, tmp_path / "out", mapping=str(file)).manifest.exclusions
    assert not any("ODD" in reason or "'C'" in reason for reason, _ in exclusions)


def test_the_columns_of_the_standard_are_sufficient(tmp_path: Path):
    root = write_data_set(tmp_path / "raw", make_rows(ids=False))
    events = run_ingest(root, tmp_path / "all").tables().events
    standard = ["subject_id", "time", "code", "numeric_value"]
    for file in (root / "data").glob("**/*.parquet"):
        pl.read_parquet(file, columns=standard).write_parquet(file)
    tables = run_ingest(root, tmp_path / "standard").tables()
    assert tables.events.equals(events)
    # the number is a rate, in the usual unit of its item
    assert tables.treatments["dose"].to_list() == [pytest.approx(0.1 * 60)] * 4


def test_a_data_set_without_numbers_has_no_events(tmp_path: Path):
    root = write_data_set(tmp_path / "raw", make_rows())
    for file in (root / "data").glob("**/*.parquet"):
        pl.read_parquet(file, columns=["subject_id", "time", "code"]).write_parquet(file)
    with pytest.raises(CheckFailed, match="stay_without_events"):
        run_ingest(root, tmp_path / "none")


@pytest.mark.parametrize(
    ("mapping", "what"), [("auto", "no shipped mapping"), ("mimic", "no stay")]
)
def test_a_data_set_without_stays_is_refused(tmp_path: Path, mapping: str, what: str):
    rows = [make_row(1, "2150-01-01T00:00:00", "LAB//220045//bpm", 1.0)]
    root = write_data_set(tmp_path / "raw", rows)
    with pytest.raises(CheckFailed, match=what):
        run_ingest(root, tmp_path / "out", mapping=mapping)


def make_septic_rows(subject: int) -> list[Row]:
    """A culture, antibiotics over two days, and a platelet count that falls."""
    day = [f"2150-03-{subject + i:02d}" for i in range(3)]
    return [
        make_row(subject, f"{day[0]}T11:00:00", "CULTURE//BLOOD CULTURE"),
        make_row(subject, f"{day[0]}T12:00:00", "GIVE//vancomycin", 1.0),
        make_row(subject, f"{day[1]}T12:00:00", "GIVE//vancomycin", 1.0),
        make_row(subject, f"{day[0]}T09:00:00", "PLT", 200.0),
        make_row(subject, f"{day[0]}T20:00:00", "PLT", 60.0),
    ]


def test_stays_are_labelled_by_sepsis_3_from_antibiotics_and_cultures(tmp_path: Path):
    lines = [
        "GIVE//*,drug,vancomycin,g,,",
        "CULTURE//*,culture,,,,",
        "PLT,variable,plt,,,",
        "LAB//*,variable,hr,,,",
    ]
    file = write_mapping(tmp_path, [*STAY_CODES, *lines])
    without_culture = [row for row in make_septic_rows(2) if "CULTURE" not in row["code"]]
    rows = make_rows() + make_septic_rows(1) + without_culture
    root = write_data_set(tmp_path / "raw", rows)
    extract = run_ingest(root, tmp_path / "out", mapping=str(file), sepsis3={})
    (episode,) = extract.tables().episodes.to_dicts()
    assert (episode["stay_id"], episode["onset"]) == (499, at("2150-03-01T20:00"))
    assert episode["known_at"] > episode["onset"]
    assert dict(extract.manifest.source_counts)["stays with an episode"] == 1


def test_sepsis_3_without_a_culture_is_refused(tmp_path: Path):
    lines = ["GIVE//*,drug,vancomycin,g,,", "LAB//*,variable,hr,,,"]
    file = write_mapping(tmp_path, [*STAY_CODES, *lines])
    root = write_data_set(tmp_path / "raw", make_rows() + make_septic_rows(1))
    with pytest.raises(CheckFailed, match="no stay has cultures, which suspected infection needs"):
        run_ingest(root, tmp_path / "out", mapping=str(file), sepsis3={}, allow_empty=False)


def test_labels_and_sepsis_3_exclude_each_other(tmp_path: Path):
    root = write_data_set(tmp_path / "raw", make_rows())
    with pytest.raises(UsageError, match="exclude each other"):
        run_ingest(root, tmp_path / "out", labels="here", sepsis3={})


def test_an_interrupted_ingest_leaves_nothing_in_the_spill_folder(
    tmp_path: Path, flowsheet_home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(spill, "_MEMORY_LIMIT", 0)
    batches = open_source(write_data_set(tmp_path / "raw", make_rows())).batches()
    next(batches)
    assert any(path.is_dir() for path in (flowsheet_home / "spill").iterdir())
    batches.close()
    assert not list((flowsheet_home / "spill").iterdir())
