"""Bad input is named, whichever database it is of: never a traceback, never a silent loss."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest
from flowsheet.config import CohortConfig
from flowsheet.errors import CheckFailed
from tests.cohort.clif_folder import clif_tables, ingest_clif, make_clif, write_clif
from tests.cohort.mimic3_folder import RawTables, ingest_folder, raw_tables, write_tables
from tests.cohort.mimic4_folder import ingest_mimic4, mimic4_tables, write_mimic4

pytestmark = pytest.mark.usefixtures("flowsheet_home")


@dataclass(frozen=True)
class Case:
    """A database, its small tables, and how they are written and read.

    Tests name tables and columns as MIMIC-IV does; ``names`` has the database's own.
    """

    make: Callable[[], RawTables]
    write: Callable[..., Path]
    ingest: Callable[..., Extract]
    names: dict[str, str] = field(default_factory=dict)
    missing: str = ""
    """A table without which nothing is read, beside those of all databases."""
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    """For each table as MIMIC-IV names it, other names of its columns."""
    item_rule: str | None = "id"
    """The rule that a text as an item breaks; None: items are texts."""
    row_rule: str = "unknown_stay"
    """The rule that a row of an unknown stay breaks."""
    no_stay: str = "no stay at that time"
    zone: str = ""
    """How the other times state their zone; without it a single time would be refused."""

    def table(self, name: str) -> str:
        return self.names.get(name, name)

    def column(self, table: str, name: str) -> str:
        return self.columns.get(table, {}).get(name, name)

    def time(self, text: str) -> str:
        return text + self.zone if text.endswith(":00") else text

    def find(self, folder: Path, table: str) -> Path:
        return next(file for file in folder.rglob("*.csv*") if file.name.lower().startswith(table))


_MIMIC3_COLUMNS = {"stay_id": "icustay_id"}
_CLIF_COLUMNS = {"stay_id": "hospitalization_id", "charttime": "recorded_dttm"}
CASES = {
    "mimic3": Case(
        raw_tables,
        write_tables,
        ingest_folder,
        names={"inputevents": "inputevents_mv"},
        missing="microbiologyevents",
        columns=dict.fromkeys(("icustays", "chartevents", "inputevents"), _MIMIC3_COLUMNS),
        no_stay="without ICUSTAY_ID, and no stay at that time",
    ),
    "mimic4": Case(
        mimic4_tables,
        write_mimic4,
        ingest_mimic4,
        missing="microbiologyevents",
        no_stay="without STAY_ID, and no stay at that time",
    ),
    "clif": Case(
        clif_tables,
        write_clif,
        ingest_clif,
        names={
            "icustays": "clif_adt",
            "chartevents": "clif_vitals",
            "labevents": "clif_labs",
            "patients": "clif_patient",
            "inputevents": "clif_medication_admin_continuous",
        },
        missing="clif_respiratory_support",
        columns={
            "icustays": {"outtime": "out_dttm"},
            "chartevents": _CLIF_COLUMNS | {"valuenum": "vital_value", "itemid": "vital_category"},
            "labevents": _CLIF_COLUMNS | {"charttime": "lab_collect_dttm"},
            "patients": {"gender": "sex_category"},
            "inputevents": {"starttime": "admin_dttm"},
        },
        item_rule=None,
        row_rule="unknown_admission",
        zone="+00:00",
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.mark.parametrize("table", ["icustays", "chartevents", "labevents", ""])
def test_a_missing_table_is_named(case: Case, tmp_path: Path, table: str):
    tables = case.make()
    table = case.table(table) or case.missing
    del tables[table]
    folder = case.write(tmp_path / "tables", tables)
    with pytest.raises(CheckFailed, match=f"tables are missing: {table.upper()}"):
        case.ingest(folder, tmp_path / "extract")
    assert not (tmp_path / "extract").exists()


@pytest.mark.parametrize(
    ("table", "column"),
    [("chartevents", "charttime"), ("patients", "gender"), ("inputevents", "starttime")],
)
def test_a_missing_column_is_named(case: Case, tmp_path: Path, table: str, column: str):
    tables = case.make()
    name, column = case.table(table), case.column(table, column)
    tables[name] = tables[name].drop(column)
    folder = case.write(tmp_path / "tables", tables)
    with pytest.raises(CheckFailed, match=f"{name.upper()} lacks the columns {column}"):
        case.ingest(folder, tmp_path / "extract")


def test_a_file_that_is_cut_off_or_has_other_delimiters_is_refused(case: Case, tmp_path: Path):
    folder = case.write(tmp_path / "tables", case.make())
    file = case.find(folder, case.table("chartevents"))
    data = file.read_bytes()
    file.write_bytes(data[:-20])
    with pytest.raises(CheckFailed, match="ends early") as refused:
        case.ingest(folder, tmp_path / "extract")
    assert file.name in str(refused.value)
    text = gzip.decompress(data).replace(b",", b";")
    file.write_bytes(gzip.compress(text))
    with pytest.raises(CheckFailed, match="semicolons"):
        case.ingest(folder, tmp_path / "extract")


WRONG_CELLS = [
    ("chartevents", "charttime", "2160-13-01 11:00:00", "date"),
    ("chartevents", "charttime", "2160-01-01", "date"),
    ("chartevents", "valuenum", "8x8", "number"),
    ("chartevents", "itemid", "hr", "item"),
    ("chartevents", "stay_id", "9999", "row"),
    ("labevents", "charttime", "yesterday", "date"),
    ("icustays", "outtime", "2100-02-01 00:00:00", "discharge_before_admission"),
    ("inputevents", "starttime", "noon", "date"),
]
"""Table, column, cell and the rule that it breaks."""


def test_wrong_cells_are_quarantined_with_their_columns_and_values(case: Case, tmp_path: Path):
    """All at once: the first wrong cell of a table is in its first row, the next in its second."""
    tables, expected = case.make(), set()
    next_rows: Counter[str] = Counter()
    rules = {"row": case.row_rule, "item": case.item_rule}
    for table, column, cell, kind in WRONG_CELLS:
        rule, name = rules.get(kind, kind), case.table(table)
        if rule is None:  # items are texts: an unknown one is counted
            continue
        column_name, written = case.column(table, column), case.time(cell)
        is_changed = pl.int_range(pl.len()) == next_rows[name]
        wrong = pl.when(is_changed).then(pl.lit(written)).otherwise(column_name)
        tables[name] = tables[name].with_columns(wrong.alias(column_name))
        next_rows[name] += 1
        value = cell if kind == "discharge_before_admission" else written  # read: without its zone
        expected.add((rule, name, column_name, value, next_rows[name]))
    extract = case.ingest(case.write(tmp_path / "tables", tables), tmp_path / "extract")
    row = pl.col("key").str.extract(r"row (\d+) \(line").cast(int)
    columns = ("rule", "table", "column", "value")
    found = pl.read_parquet(extract.path / "quarantine.parquet").select(*columns, row).rows()
    assert set(found) >= expected


def test_rows_of_unknown_items_and_patients_are_counted(case: Case, tmp_path: Path):
    tables = case.make()
    name = case.table("chartevents")
    row: dict[str, Any] = tables[name].row(0, named=True)
    item, stay = case.column("chartevents", "itemid"), case.column("chartevents", "stay_id")
    time = case.column("chartevents", "charttime")
    late = row | {time: case.time("2199-01-01 10:00:00")}
    if "subject_id" in row:
        late |= {"subject_id": "77", stay: None}
    more = pl.DataFrame([row | {item: "999999"}, late], tables[name].schema)
    tables[name] = pl.concat([tables[name], more])
    extract = case.ingest(case.write(tmp_path / "tables", tables), tmp_path / "extract")
    counts = dict(extract.manifest.exclusions)
    unmapped = f"{name}: items that the catalogue does not map"
    assert sum(n for reason, n in counts.items() if reason.startswith(unmapped)) >= 1
    assert counts[f"{name}: {case.no_stay}"] == 1


def test_rows_without_a_time_are_counted(case: Case, tmp_path: Path):
    tables = case.make()
    name, column = case.table("inputevents"), case.column("inputevents", "starttime")
    infusions = tables[name]
    tables[name] = infusions.with_columns(pl.lit(None, pl.String).alias(column))
    extract = case.ingest(case.write(tmp_path / "tables", tables), tmp_path / "extract")
    n_missing = dict(extract.manifest.exclusions)[f"{name}: without a time"]
    assert n_missing > infusions.height / 2


def test_clif_is_not_labelled_without_cultures(tmp_path: Path):
    """0 septic stays would be a wrong label, not an empty one."""
    tables = clif_tables()
    cultures = tables.pop("clif_microbiology_culture")
    config = CohortConfig(name="small", source="clif")
    for extra in ({}, {"clif_microbiology_culture": cultures.clear()}):
        folder = write_clif(tmp_path / str(len(extra)), tables | extra)
        source = make_clif(folder, sepsis3={})
        with pytest.raises(CheckFailed, match="CLIF_MICROBIOLOGY_CULTURE can be used") as refused:
            ingest(source, config, tmp_path / "extract", lambda line: None)
        assert "no stay has cultures" in str(refused.value)
    assert not (tmp_path / "extract").exists()


def test_a_cut_parquet_file_is_refused(tmp_path: Path):
    folder = write_clif(tmp_path / "tables", clif_tables(), "parquet")
    file = folder / "clif_labs.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CheckFailed, match="cannot be read") as refused:
        ingest_clif(folder, tmp_path / "extract")
    assert file.name in str(refused.value)
