"""Tables made elsewhere become an extract like any other."""

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


def made(cohort: str, target: Path, *overrides: str) -> Extract:
    config = compose_cohort(cohort, overrides)
    return ingest(make_source(config), config, target, lambda line: None)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return made("simulated_small", tmp_path_factory.mktemp("sound") / "ward").tables()


class TestConformance(SourceConformance):
    @pytest.fixture(autouse=True)
    def _sound(self, sound: Tables) -> None:
        self.sound = sound

    def write(self, folder: Path, tables: Tables) -> Source:
        for name in TABLES:
            getattr(tables, name).write_parquet(folder / f"{name}.parquet")
        return ExtractFolder(folder, ExtractOptions())

    def make_source(self, folder: Path) -> Source:
        return self.write(folder, self.sound)

    def make_shuffled(self, folder: Path) -> Source:
        shuffled = (
            getattr(self.sound, name).sample(fraction=1, shuffle=True, seed=1) for name in TABLES
        )
        return self.write(folder, Tables(*shuffled))

    def make_changed(self, folder: Path) -> Source:
        value = pl.when(pl.int_range(pl.len()) == 7).then(pl.col("value") + 1).otherwise("value")
        return self.write(folder, replace(self.sound, events=self.sound.events.with_columns(value)))


@pytest.fixture
def ward(tmp_path: Path) -> Extract:
    return made("simulated_small", tmp_path / "ward")


def test_a_copy_is_the_same_extract(ward: Extract, tmp_path: Path):
    copy = made("extract", tmp_path / "copy", f"cohort.path={ward.path}")
    assert copy.fingerprint == ward.fingerprint
    assert copy.manifest.variables == ward.manifest.variables


def test_hand_made_tables_need_no_manifest_and_no_order(ward: Extract, tmp_path: Path):
    folder = tmp_path / "hand-made"
    folder.mkdir()
    tables = ward.tables()
    tables.stays.drop("site", "height_cm", "weight_kg").reverse().write_parquet(
        folder / "stays.parquet"
    )
    tables.events.sample(fraction=1, shuffle=True, seed=1).write_parquet(folder / "events.parquet")
    copy = made("extract", tmp_path / "copy", f"cohort.path={folder}")
    assert copy.tables().events.equals(tables.events)
    assert copy.tables().episodes.is_empty()
    assert set(copy.manifest.variables) == set(tables.events["variable"])


def test_rows_of_unknown_stays_are_quarantined_with_their_number(ward: Extract, tmp_path: Path):
    stray = ward.tables().events.head(3).with_columns(stay_id=pl.lit(10**9, pl.Int64))
    pl.concat([ward.tables().events, stray]).write_parquet(ward.path / "events.parquet")
    copy = made("extract", tmp_path / "copy", f"cohort.path={ward.path}")
    assert [(q.table, q.rows) for q in copy.manifest.quarantined] == [("events", 3)]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "events.parquet").unlink(), "lacks the table 'events'"),
        (lambda folder: (folder / "stays.parquet").write_bytes(b"PAR1"), "'stays' cannot be read"),
        (
            lambda folder: pl.DataFrame({"stay_id": [1]}).write_parquet(folder / "events.parquet"),
            "'events' cannot",
        ),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest"),
    ],
)
def test_what_cannot_be_read_is_named(ward: Extract, tmp_path: Path, spoil, said: str):
    spoil(ward.path)
    with pytest.raises(CheckFailed, match=said):
        made("extract", tmp_path / "copy", f"cohort.path={ward.path}")
    assert not (tmp_path / "copy").exists()
