"""What every source must keep: subclass :class:`SourceConformance` in a test and say how to make
the source.

>>> class TestMySource(SourceConformance):
...     def make_source(self, folder):
...         raise NotImplementedError("write small raw records into folder, return the source over them")
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flowsheet.cohort import catalogue, checks
from flowsheet.cohort.extract import Extract, check_extract
from flowsheet.cohort.ingest import ingest
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.sources.base import DEFECTS, Source, StayBatch
from flowsheet.cohort.writer import sort_rows
from flowsheet.config import CohortConfig
from flowsheet.errors import FlowsheetError

_FLIPS = 25


class SourceConformance:
    """Laws of every source, over small sound raw records of at least two stays."""

    def make_source(self, folder: Path) -> Source:
        """The source over raw records, the same ones each time, written into the empty folder where it needs any."""
        raise NotImplementedError

    def make_shuffled(self, folder: Path) -> Source | None:
        """The same records in another raw order; None where the order means something."""
        return None

    def make_changed(self, folder: Path) -> Source | None:
        """The same records with one value changed; None where nothing can be changed."""
        return None

    def test_batches_have_the_columns_and_types_of_the_contract(self, tmp_path: Path) -> None:
        """Exactly, and in order."""
        for batch in self.make_source(tmp_path).batches():
            for table, columns in TABLES.items():
                assert getattr(batch, table).schema == pl.Schema(columns), table
            assert batch.defects.schema == pl.Schema(DEFECTS)

    def test_stays_ascend_within_and_across_batches(self, tmp_path: Path) -> None:
        """So that no stay comes twice, and an extract is sorted without being held in memory."""
        ids = _whole(self.make_source(tmp_path))["stays"]["stay_id"]
        assert len(ids) >= 2
        assert ids.is_sorted()
        assert ids.is_unique().all()

    def test_the_same_records_give_the_same_batches(self, tmp_path: Path) -> None:
        """Twice from one source, and from two."""
        first, second = _own(tmp_path, "first"), _own(tmp_path, "second")
        source = self.make_source(first)
        batches = list(source.batches())
        for again in (list(source.batches()), list(self.make_source(second).batches())):
            assert len(again) == len(batches)
            assert all(_equal(a, b) for a, b in zip(batches, again, strict=True))
        assert source.fingerprint() == self.make_source(_own(tmp_path, "third")).fingerprint()

    def test_every_row_keeps_the_contract(self, tmp_path: Path) -> None:
        """Sound records have no defects and break no rule."""
        source = self.make_source(tmp_path)
        assert all(batch.defects.is_empty() for batch in source.batches())
        found = checks.find_failures(
            {name: sort_rows(name, rows) for name, rows in _whole(source).items()}
        )
        assert found.is_empty(), str(found)

    def test_only_known_concepts_are_promised_and_given(self, tmp_path: Path) -> None:
        """What the source says it can hold is in the catalogue, and it holds nothing else."""
        source = self.make_source(tmp_path)
        whole = _whole(source)
        assert set(source.variables) <= set(catalogue.variables())
        assert set(source.drugs) <= set(catalogue.drugs())
        assert set(whole["events"]["variable"]) <= set(source.variables)
        assert set(whole["treatments"]["drug"]) <= set(source.drugs)

    def test_an_extract_holds_what_the_batches_held(self, tmp_path: Path) -> None:
        """Written, opened, verified and read back."""
        source = self.make_source(_own(tmp_path, "raw"))
        extract = _ingest(source, tmp_path / "extract")
        whole, tables = _whole(source), Extract.open(extract.path, verify=True).tables()
        for table in TABLES:
            assert getattr(tables, table).equals(sort_rows(table, whole[table])), table
        assert check_extract(extract.path).is_empty()

    def test_the_raw_order_does_not_matter(self, tmp_path: Path) -> None:
        """Where it carries no meaning."""
        shuffled = self.make_shuffled(_own(tmp_path, "shuffled"))
        if shuffled is None:
            pytest.skip("the order of this source's records means something")
        extract = _ingest(self.make_source(_own(tmp_path, "raw")), tmp_path / "extract")
        assert _ingest(shuffled, tmp_path / "other").fingerprint == extract.fingerprint

    def test_another_value_gives_another_fingerprint(self, tmp_path: Path) -> None:
        """Of the raw records and of the extract."""
        changed = self.make_changed(_own(tmp_path, "changed"))
        if changed is None:
            pytest.skip("there are no raw records to change")
        source = self.make_source(_own(tmp_path, "raw"))
        assert changed.fingerprint() != source.fingerprint()
        one, other = _ingest(source, tmp_path / "one"), _ingest(changed, tmp_path / "other")
        assert other.fingerprint != one.fingerprint

    def test_damaged_records_are_read_or_refused_in_words(self, tmp_path: Path) -> None:
        """One byte of one file is another: an error of our own, or none."""
        source = self.make_source(tmp_path)
        files = sorted(
            file for file in tmp_path.rglob("*") if file.is_file() and file.stat().st_size
        )
        if not files:
            pytest.skip("there are no raw records to damage")
        rng = np.random.default_rng(0)
        for file in rng.choice(np.array(files, dtype=object), _FLIPS):
            sound = file.read_bytes()
            damaged = bytearray(sound)
            damaged[rng.integers(len(sound))] = rng.integers(256)
            file.write_bytes(damaged)
            with contextlib.suppress(FlowsheetError):
                list(type(source)(source.path, source.options).batches())
            file.write_bytes(sound)


def _own(folder: Path, name: str) -> Path:
    own = folder / name
    own.mkdir()
    return own


def _whole(source: Source) -> dict[str, pl.DataFrame]:
    batches = list(source.batches())
    return {table: pl.concat([getattr(batch, table) for batch in batches]) for table in TABLES}


def _equal(one: StayBatch, other: StayBatch) -> bool:
    a, b = (Tables(*(sort_rows(t, getattr(batch, t)) for t in TABLES)) for batch in (one, other))
    return all(getattr(a, table).equals(getattr(b, table)) for table in TABLES)


def _ingest(source: Source, target: Path) -> Extract:
    return ingest(
        source, CohortConfig(name="conformance", source="conformance"), target, lambda line: None
    )
