"""Conformance tests for sources: subclass ``SourceConformance`` in a test.

>>> class TestMySource(SourceConformance):
...     def make_source(self, folder):
...         raise NotImplementedError("write small raw records to folder, return their source")
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
from flowsheet.cohort.schema import TABLES
from flowsheet.cohort.sources.base import DEFECTS, Source, StayBatch
from flowsheet.cohort.writer import sort_rows
from flowsheet.config import CohortConfig
from flowsheet.errors import FlowsheetError

_CHANGED_BYTES = 10


class SourceConformance:
    """The contract of ``Source`` as tests.

    The tests run on small valid raw records of at least two stays.
    """

    def make_source(self, folder: Path) -> Source:
        """A source over raw records, always the same, written to the empty folder if needed."""
        raise NotImplementedError

    def make_shuffled(self, folder: Path) -> Source | None:
        """The same records in another raw order; None if the order has a meaning."""
        return None

    def make_changed(self, folder: Path) -> Source | None:
        """The same records with one value changed; None if there is nothing to change."""
        return None

    def test_batches_have_the_columns_and_types_of_the_contract(self, tmp_path: Path) -> None:
        """Exactly the contract's columns, in its order."""
        for batch in self.make_source(tmp_path).batches():
            for table, columns in TABLES.items():
                assert getattr(batch, table).schema == pl.Schema(columns), table
            assert batch.defects.schema == pl.Schema(DEFECTS)

    def test_stays_ascend_within_and_across_batches(self, tmp_path: Path) -> None:
        """So no stay comes twice, and an extract is sorted without having it all in memory."""
        ids = _read_all(self.make_source(tmp_path))["stays"]["stay_id"]
        assert len(ids) >= 2
        assert ids.is_sorted()
        assert ids.is_unique().all()

    def test_the_same_records_give_the_same_batches(self, tmp_path: Path) -> None:
        """Reading one source twice, and reading two sources over equal records."""
        source = self.make_source(_subfolder(tmp_path, "first"))
        other = self.make_source(_subfolder(tmp_path, "second"))
        batches = list(source.batches())
        for again in (list(source.batches()), list(other.batches())):
            assert len(again) == len(batches)
            assert all(_are_equal(a, b) for a, b in zip(batches, again, strict=True))
        third = self.make_source(_subfolder(tmp_path, "third"))
        assert source.fingerprint() == third.fingerprint()

    def test_every_row_follows_the_contract(self, tmp_path: Path) -> None:
        """Valid records have no defects and break no rule."""
        source = self.make_source(tmp_path)
        assert all(batch.defects.is_empty() for batch in source.batches())
        rows = _read_all(source)
        failures = checks.find_failures({name: sort_rows(name, rows[name]) for name in TABLES})
        assert failures.is_empty(), str(failures)

    def test_only_known_concepts_are_declared_and_returned(self, tmp_path: Path) -> None:
        """The declared concepts are in the catalogue, and the rows have no others."""
        source = self.make_source(tmp_path)
        rows = _read_all(source)
        assert set(source.variables) <= set(catalogue.variables())
        assert set(source.drugs) <= set(catalogue.drugs())
        assert set(rows["events"]["variable"]) <= set(source.variables)
        assert set(rows["treatments"]["drug"]) <= set(source.drugs)

    def test_an_extract_has_the_rows_of_the_batches(self, tmp_path: Path) -> None:
        """Written, opened, verified and read back."""
        source = self.make_source(_subfolder(tmp_path, "raw"))
        extract = _ingest(source, tmp_path / "extract")
        rows = _read_all(source)
        tables = Extract.open(extract.path, verify=True).tables()
        for table in TABLES:
            assert getattr(tables, table).equals(sort_rows(table, rows[table])), table
        assert check_extract(extract.path).is_empty()

    def test_the_raw_order_does_not_matter(self, tmp_path: Path) -> None:
        """For sources whose raw order has no meaning."""
        shuffled = self.make_shuffled(_subfolder(tmp_path, "shuffled"))
        if shuffled is None:
            pytest.skip("the order of this source's records has a meaning")
        extract = _ingest(self.make_source(_subfolder(tmp_path, "raw")), tmp_path / "extract")
        assert _ingest(shuffled, tmp_path / "other").fingerprint == extract.fingerprint

    def test_another_value_gives_another_fingerprint(self, tmp_path: Path) -> None:
        """Both of the raw records and of the extract."""
        changed = self.make_changed(_subfolder(tmp_path, "changed"))
        if changed is None:
            pytest.skip("there are no raw records to change")
        source = self.make_source(_subfolder(tmp_path, "raw"))
        assert changed.fingerprint() != source.fingerprint()
        extract = _ingest(source, tmp_path / "one")
        assert _ingest(changed, tmp_path / "other").fingerprint != extract.fingerprint

    def test_damaged_records_are_read_or_rejected_with_an_error(self, tmp_path: Path) -> None:
        """If one byte of one file is changed: a ``FlowsheetError``, or none."""
        source = self.make_source(tmp_path)
        files = sorted(
            file for file in tmp_path.rglob("*") if file.is_file() and file.stat().st_size
        )
        if not files:
            pytest.skip("there are no raw records to damage")
        rng = np.random.default_rng(0)
        for file in rng.choice(np.array(files, dtype=object), _CHANGED_BYTES):
            original = file.read_bytes()
            damaged = bytearray(original)
            damaged[rng.integers(len(original))] = rng.integers(256)
            file.write_bytes(damaged)
            with contextlib.suppress(FlowsheetError):
                list(type(source)(source.path, source.options).batches())
            file.write_bytes(original)


def _subfolder(folder: Path, name: str) -> Path:
    subfolder = folder / name
    subfolder.mkdir()
    return subfolder


def _read_all(source: Source) -> dict[str, pl.DataFrame]:
    batches = list(source.batches())
    return {table: pl.concat([getattr(batch, table) for batch in batches]) for table in TABLES}


def _are_equal(one: StayBatch, other: StayBatch) -> bool:
    """Whether two batches have the same rows, in any order."""
    for table in TABLES:
        rows, other_rows = getattr(one, table), getattr(other, table)
        if not sort_rows(table, rows).equals(sort_rows(table, other_rows)):
            return False
    return True


def _ingest(source: Source, target: Path) -> Extract:
    return ingest(
        source,
        CohortConfig(name="conformance", source="conformance", allow_empty=True),
        target,
        lambda line: None,
    )
