"""Rows that are lost, unknown or late are counted, and a warning in the manifest names them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort import ingest as cohort_ingest
from flowsheet.cohort.extract import Extract
from flowsheet.config import CohortConfig, QuarantineConfig
from tests.cohort.mimic3_folder import make_source, raw_tables, write_tables


def ingest(tmp_path: Path, tables: dict[str, pl.DataFrame]) -> Extract:
    source = make_source(write_tables(tmp_path / "raw", tables))
    policy = QuarantineConfig(max_share=0.3)
    config = CohortConfig(name="small", source="mimic3", allow_empty=True, quarantine=policy)
    return cohort_ingest.ingest(source, config, tmp_path / "extract", lambda line: None)


def change(tables: dict[str, pl.DataFrame], name: str, **columns: str) -> None:
    tables[name] = tables[name].with_columns(
        pl.lit(value).alias(column) for column, value in columns.items()
    )


def test_sound_tables_have_no_such_warning(tmp_path):
    extract = ingest(tmp_path, raw_tables())
    words = ("excluded: ", "unit that is not known", "known_at")
    assert not [w for w in extract.manifest.warnings if any(word in w for word in words)]


def test_results_of_an_unknown_patient_are_named(tmp_path):
    tables = raw_tables()
    change(tables, "labevents", subject_id="999")
    manifest = ingest(tmp_path, tables).manifest
    rows = dict(manifest.exclusions)["labevents: of a subject who is not in the table of patients"]
    assert rows > 0
    (warning,) = [w for w in manifest.warnings if w.startswith("LABEVENTS: ")]
    assert f"{rows:,} rows" in warning
    assert "not in the table of patients" in warning


def test_a_table_outside_its_stays_is_named(tmp_path):
    tables = raw_tables()
    change(tables, "chartevents", charttime="2190-01-01 00:00:00")
    warnings = ingest(tmp_path, tables).manifest.warnings
    assert any("CHARTEVENTS" in w and "excluded: outside the stay" in w for w in warnings)


@pytest.mark.parametrize(("unit", "is_known"), [("furlongs", False), (" ", True), ("...", True)])
def test_a_unit_that_is_not_known_is_named_and_nothing_is_converted(tmp_path, unit, is_known):
    tables = raw_tables()
    plain = ingest(tmp_path / "plain", tables)
    change(tables, "labevents", valueuom=unit)
    extract = ingest(tmp_path / "changed", tables)
    found = [w for w in extract.manifest.warnings if "unit that is not known" in w]
    assert (found == []) == is_known
    assert all("LABEVENTS" in w and "in furlongs" in w for w in found)
    without_crp = pl.col("variable") != "crp"  # the one whose map of items has several units
    before, after = (e.tables().events.filter(without_crp) for e in (plain, extract))
    assert after.equals(before)
