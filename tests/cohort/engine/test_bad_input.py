"""Bad input is named, whichever database it is of: never a traceback, never a silent loss."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flowsheet.cohort.extract import Extract
from flowsheet.errors import CheckFailed
from tests.cohort.mimic3_folder import RawTables, ingest_folder, raw_tables, write_tables
from tests.cohort.mimic4_folder import ingest_mimic4, mimic4_tables, write_mimic4

pytestmark = pytest.mark.usefixtures("flowsheet_home")


@dataclass(frozen=True)
class Case:
    """A database, its small tables, and how they are written and read."""

    stay_column: str
    infusions: str
    make: Callable[[], RawTables]
    write: Callable[..., Path]
    ingest: Callable[..., Extract]

    def find(self, folder: Path, table: str) -> Path:
        return next(file for file in folder.rglob("*.csv*") if file.name.lower().startswith(table))


CASES = {
    "mimic3": Case("icustay_id", "inputevents_mv", raw_tables, write_tables, ingest_folder),
    "mimic4": Case("stay_id", "inputevents", mimic4_tables, write_mimic4, ingest_mimic4),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.mark.parametrize("table", ["icustays", "chartevents", "labevents", "microbiologyevents"])
def test_a_missing_table_is_named(case: Case, tmp_path: Path, table: str):
    tables = case.make()
    del tables[table]
    folder = case.write(tmp_path / "tables", tables)
    with pytest.raises(CheckFailed, match=f"tables are missing: {table.upper()}"):
        case.ingest(folder, tmp_path / "extract")
    assert not (tmp_path / "extract").exists()


@pytest.mark.parametrize(
    ("table", "column"), [("chartevents", "charttime"), ("patients", "gender"), ("", "starttime")]
)
def test_a_missing_column_is_named(case: Case, tmp_path: Path, table: str, column: str):
    tables = case.make()
    name = table or case.infusions
    tables[name] = tables[name].drop(column)
    folder = case.write(tmp_path / "tables", tables)
    with pytest.raises(CheckFailed, match=f"{name.upper()} lacks the columns {column}"):
        case.ingest(folder, tmp_path / "extract")


def test_a_file_that_is_cut_off_or_has_other_delimiters_is_refused(case: Case, tmp_path: Path):
    folder = case.write(tmp_path / "tables", case.make())
    file = case.find(folder, "chartevents")
    data = file.read_bytes()
    file.write_bytes(data[:-20])
    with pytest.raises(CheckFailed, match="ends early") as refused:
        case.ingest(folder, tmp_path / "extract")
    assert file.name in str(refused.value)
    text = gzip.decompress(data).replace(b",", b";")
    file.write_bytes(gzip.compress(text))
    with pytest.raises(CheckFailed, match="semicolons"):
        case.ingest(folder, tmp_path / "extract")


@pytest.mark.parametrize(
    ("table", "column", "cell", "rule"),
    [
        ("chartevents", "charttime", "2160-13-01 11:00:00", "date"),
        ("chartevents", "charttime", "2160-01-01", "date"),
        ("chartevents", "valuenum", "8x8", "number"),
        ("chartevents", "itemid", "hr", "id"),
        ("chartevents", "STAY", "9999", "unknown_stay"),
        ("labevents", "charttime", "yesterday", "date"),
        ("icustays", "outtime", "2100-02-01 00:00:00", "discharge_before_admission"),
        ("", "starttime", "noon", "date"),
    ],
)
def test_a_wrong_cell_is_quarantined_with_its_column_and_value(
    case: Case, tmp_path: Path, table: str, column: str, cell: str, rule: str
):
    tables = case.make()
    name, column = table or case.infusions, column.replace("STAY", case.stay_column)
    is_changed = pl.int_range(pl.len()) == 0
    wrong = pl.when(is_changed).then(pl.lit(cell)).otherwise(column).alias(column)
    tables[name] = tables[name].with_columns(wrong)
    folder = case.write(tmp_path / "tables", tables)
    extract = case.ingest(folder, tmp_path / "extract")
    found = pl.read_parquet(extract.path / "quarantine.parquet").filter(rule=rule)
    assert found.select("table", "column", "value").rows() == [(name, column, cell)]
    assert "row 1 (line 2)" in found["key"][0]


def test_rows_of_unknown_items_and_patients_are_counted(case: Case, tmp_path: Path):
    tables = case.make()
    row: dict[str, Any] = tables["chartevents"].row(0, named=True)
    unknown = [row | {"itemid": "999999"}, row | {"subject_id": "77", case.stay_column: None}]
    more = pl.DataFrame(unknown, tables["chartevents"].schema)
    tables["chartevents"] = pl.concat([tables["chartevents"], more])
    extract = case.ingest(case.write(tmp_path / "tables", tables), tmp_path / "extract")
    counts = dict(extract.manifest.exclusions)
    assert counts["chartevents: items that the catalogue does not map"] >= 1
    reason = f"chartevents: without {case.stay_column.upper()}, and no stay at that time"
    assert counts[reason] == 1


def test_rows_without_a_time_are_counted(case: Case, tmp_path: Path):
    tables = case.make()
    infusions = tables[case.infusions]
    tables[case.infusions] = infusions.with_columns(starttime=pl.lit(None, pl.String))
    extract = case.ingest(case.write(tmp_path / "tables", tables), tmp_path / "extract")
    n_missing = dict(extract.manifest.exclusions)[f"{case.infusions}: without a time"]
    assert n_missing > infusions.height / 2
