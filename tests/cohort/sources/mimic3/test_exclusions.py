"""A wrong cell costs its row, which is quarantined or refused by name."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flowsheet.config import Policy
from flowsheet.errors import CheckFailed
from tests.cohort.mimic3_folder import ingest_folder, raw_tables, write_tables


@pytest.mark.parametrize(
    ("table", "row", "cells", "rule"),
    [
        ("chartevents", 1, {"charttime": "2150-13-01 11:00:00"}, "date"),
        ("labevents", 1, {"charttime": "yesterday"}, "date"),
        ("chartevents", 1, {"icustay_id": "9999"}, "unknown_stay"),
        ("chartevents", 1, {"valuenum": "8x8"}, "number"),
        ("chartevents", 1, {"itemid": "hr"}, "id"),
        ("admissions", 2, {"dischtime": "2159-01-01 00:00:00"}, "discharge_before_admission"),
        ("icustays", 1, {"outtime": "2150-02-01 00:00:00"}, "discharge_before_admission"),
        ("icustays", 2, {"icustay_id": "1001"}, "duplicate_key"),
    ],
)
def test_a_wrong_cell_is_quarantined_with_its_row_and_value(
    folder: Path, tmp_path: Path, table: str, row: int, cells: dict[str, str], rule: str
):
    is_changed = pl.int_range(1, pl.len() + 1) == row
    changes = [
        pl.when(is_changed).then(pl.lit(cell)).otherwise(column).alias(column)
        for column, cell in cells.items()
    ]
    write_tables(folder, {table: raw_tables()[table].with_columns(changes)})
    extract = ingest_folder(folder, tmp_path / "extract")
    quarantined = pl.read_parquet(extract.path / "quarantine.parquet").filter(rule=rule)
    assert quarantined["value"].to_list() == list(cells.values())
    key = quarantined["key"][0]
    assert key.startswith(table.upper())
    assert f"row {row} (line {row + 1})" in key
    with pytest.raises(CheckFailed, match=rule):
        ingest_folder(folder, tmp_path / "extract", Policy.reject)


def test_a_table_that_ends_in_the_middle_of_a_row_has_that_row_quarantined(
    folder: Path, tmp_path: Path
):
    (folder / "CHARTEVENTS.csv.gz").unlink()
    write_tables(folder, {"chartevents": raw_tables()["chartevents"]}, suffix="csv")
    file = folder / "CHARTEVENTS.csv"
    file.write_bytes(file.read_bytes()[:-30])
    extract = ingest_folder(folder, tmp_path / "extract")
    quarantined = pl.read_parquet(extract.path / "quarantine.parquet")
    assert quarantined.select("key", "rule").rows() == [
        ("CHARTEVENTS.csv row 24 (line 25)", "fields")
    ]
