"""A folder that cannot be read is refused with the file's name and the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowsheet.errors import CheckFailed
from tests.cohort.mimic3_folder import ingest_folder, raw_tables, write_tables


def test_a_gzip_file_that_ends_early_is_refused_and_leaves_nothing(
    folder: Path, tmp_path: Path, flowsheet_home: Path
):
    file = folder / "CHARTEVENTS.csv.gz"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(CheckFailed, match="ends early") as refused:
        ingest_folder(folder, tmp_path / "extract")
    assert "CHARTEVENTS.csv.gz" in str(refused.value)
    assert not (tmp_path / "extract").exists()
    assert not list((flowsheet_home / "spill").iterdir())


def test_another_delimiter_and_missing_or_duplicate_columns_and_tables_are_refused(
    folder: Path, tmp_path: Path
):
    (folder / "LABEVENTS.csv.gz").unlink()
    write_tables(folder, {"labevents": raw_tables()["labevents"]}, suffix="csv")
    labs = folder / "LABEVENTS.csv"
    valid = labs.read_text(encoding="utf-8")
    for text, reason in (
        (valid.replace(",", ";"), "semicolons"),
        (valid.replace("CHARTTIME", "TIME"), "charttime"),
    ):
        labs.write_text(text, encoding="utf-8")
        with pytest.raises(CheckFailed, match=reason) as refused:
            ingest_folder(folder, tmp_path / "extract")
        assert "LABEVENTS" in str(refused.value)
    labs.rename(tmp_path / "moved.csv")
    with pytest.raises(CheckFailed, match="tables are missing: LABEVENTS"):
        ingest_folder(folder, tmp_path / "extract")
    (tmp_path / "moved.csv").rename(folder / "labevents.csv.gz")
    (folder / "labevents.parquet").touch()
    with pytest.raises(CheckFailed, match="two files have the table LABEVENTS"):
        ingest_folder(folder, tmp_path / "extract")


def test_a_file_that_is_not_gzip_is_refused(folder: Path, tmp_path: Path):
    (folder / "LABEVENTS.csv.gz").write_bytes(b"no gzip at all")
    with pytest.raises(CheckFailed, match="cannot be read"):
        ingest_folder(folder, tmp_path / "extract")


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path):
    file = tmp_path / "tables"
    file.touch()
    with pytest.raises(CheckFailed, match="not a folder of MIMIC-III's tables"):
        ingest_folder(file, tmp_path / "extract")
