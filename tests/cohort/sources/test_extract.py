"""Tables that another program wrote become an extract like any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.sources.base import Source
from flowsheet.cohort.sources.extract import ExtractFolder, ExtractOptions
from flowsheet.compose import compose_cohort
from flowsheet.errors import CheckFailed
from flowsheet.testing.sources import SourceConformance


def run_ingest(cohort: str, target: Path, *overrides: str) -> Extract:
    config = compose_cohort(cohort, overrides)
    return ingest(make_source(config), config, target, lambda line: None)


@pytest.fixture(scope="module")
def valid_tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return run_ingest("simulated_small", tmp_path_factory.mktemp("valid") / "ward").tables()


class TestConformance(SourceConformance):
    @pytest.fixture(autouse=True)
    def _keep_tables(self, valid_tables: Tables) -> None:
        self.tables = valid_tables

    def write(self, folder: Path, tables: Tables) -> Source:
        for name in TABLES:
            getattr(tables, name).write_parquet(folder / f"{name}.parquet")
        return ExtractFolder(folder, ExtractOptions())

    def make_source(self, folder: Path) -> Source:
        return self.write(folder, self.tables)

    def make_shuffled(self, folder: Path) -> Source:
        shuffled = (
            getattr(self.tables, name).sample(fraction=1, shuffle=True, seed=1) for name in TABLES
        )
        return self.write(folder, Tables(*shuffled))

    def make_changed(self, folder: Path) -> Source:
        value = pl.when(pl.int_range(pl.len()) == 7).then(pl.col("value") + 1).otherwise("value")
        events = self.tables.events.with_columns(value)
        return self.write(folder, replace(self.tables, events=events))


@pytest.fixture
def ward(tmp_path: Path) -> Extract:
    return run_ingest("simulated_small", tmp_path / "ward")


def test_the_extract_of_an_extract_is_equal(ward: Extract, tmp_path: Path):
    copy = run_ingest("extract", tmp_path / "copy", f"cohort.path={ward.path}")
    assert copy.fingerprint == ward.fingerprint
    assert copy.manifest.variables == ward.manifest.variables


def test_tables_need_neither_a_manifest_nor_an_order_nor_optional_columns(
    ward: Extract, tmp_path: Path
):
    folder = tmp_path / "tables"
    folder.mkdir()
    tables = ward.tables()
    stays = tables.stays.drop("site", "height_cm", "weight_kg").reverse()
    stays.write_parquet(folder / "stays.parquet")
    tables.events.sample(fraction=1, shuffle=True, seed=1).write_parquet(folder / "events.parquet")
    copy = run_ingest("extract", tmp_path / "copy", f"cohort.path={folder}")
    assert copy.tables().events.equals(tables.events)
    assert copy.tables().episodes.is_empty()
    assert set(copy.manifest.variables) == set(tables.events["variable"])


def test_rows_of_unknown_stays_are_quarantined_and_counted(ward: Extract, tmp_path: Path):
    events = ward.tables().events
    unknown = events.head(3).with_columns(stay_id=pl.lit(10**9, pl.Int64))
    pl.concat([events, unknown]).write_parquet(ward.path / "events.parquet")
    copy = run_ingest("extract", tmp_path / "copy", f"cohort.path={ward.path}")
    assert [(q.table, q.rows) for q in copy.manifest.quarantined] == [("events", 3)]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "events.parquet").unlink(), "lacks the table 'events'"),
        (lambda folder: (folder / "stays.parquet").write_bytes(b"PAR1"), "'stays' cannot be read"),
        (
            lambda folder: pl.DataFrame({"stay_id": [1]}).write_parquet(folder / "events.parquet"),
            "'events' cannot",
        ),
        (lambda folder: (folder / "manifest.json").write_text("{", encoding="utf-8"), "manifest"),
    ],
)
def test_the_error_names_a_table_that_cannot_be_read(
    ward: Extract, tmp_path: Path, damage, message: str
):
    damage(ward.path)
    with pytest.raises(CheckFailed, match=message):
        run_ingest("extract", tmp_path / "copy", f"cohort.path={ward.path}")
    assert not (tmp_path / "copy").exists()
