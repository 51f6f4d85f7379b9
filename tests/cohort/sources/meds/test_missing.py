"""Shards that are absent, though the metadata know of them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flowsheet.errors import CheckFailed
from tests.cohort.sources.meds.conftest import make_rows, run_ingest, write_data_set


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four subjects in three shards, and their splits."""
    folder = write_data_set(tmp_path / "raw", make_rows(), shards=3)
    splits = pl.DataFrame({"subject_id": [1, 2, 3, 4], "split": ["split"] * 4})
    splits.write_parquet(folder / "metadata" / "subject_splits.parquet")
    return folder


def find_warnings(root: Path) -> list[str]:
    warnings = run_ingest(root, root.parent / "out").manifest.warnings
    return [warning for warning in warnings if "MISSING" in warning.upper()]


def test_a_complete_data_set_has_no_such_warning(root: Path):
    assert find_warnings(root) == []


def test_subjects_without_a_row_are_counted_and_named(root: Path):
    (root / "data" / "split" / "2.parquet").unlink()
    (warning,) = find_warnings(root)
    assert warning.startswith("SHARDS MAY BE MISSING: 1 of the 4 subjects in metadata/subject_")
    assert warning.endswith("such as 2")


def test_a_gap_in_the_numbers_is_named(root: Path):
    (root / "metadata" / "subject_splits.parquet").unlink()
    (root / "data" / "split" / "1.parquet").unlink()
    assert find_warnings(root) == ["SHARDS MAY BE MISSING: there is no data/split/1.parquet"]


def test_codes_without_a_row_are_counted(root: Path):
    codes = root / "metadata" / "codes.parquet"
    more = pl.read_parquet(codes).select("code").extend(pl.DataFrame({"code": ["LAB//1//A"]}))
    more.write_parquet(codes)
    (warning,) = find_warnings(root)
    assert "1 of the 11 codes in metadata/codes.parquet have no row, such as LAB//1//A" in warning


@pytest.mark.parametrize("name", ["subject_splits", "codes"])
def test_damaged_metadata_are_refused(root: Path, name: str):
    file = root / "metadata" / f"{name}.parquet"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(CheckFailed, match="the metadata cannot be read") as error:
        run_ingest(root, root.parent / "out")
    assert name in (error.value.where or "")
