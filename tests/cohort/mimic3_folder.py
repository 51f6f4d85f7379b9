"""A small folder of MIMIC-III's tables: three adults, 11 (CareVue), 12 (MetaVision, two stays of
one admission) and 13 (over 89), and a child, 14. The rows are in ``mimic3_tables/``."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.sources.base import StayBatch
from flowsheet.cohort.sources.mimic3 import Mimic3, Mimic3Options
from flowsheet.config import CohortConfig, Policy, QuarantineConfig

RawTables = dict[str, pl.DataFrame]
"""Raw tables by lower-case name; all cells are text."""

_FOLDER = Path(__file__).parent / "mimic3_tables"
_INTEGERS = ("subject_id", "hadm_id", "icustay_id", "itemid", "row_id", "error")
_NUMBERS = ("valuenum", "amount", "rate", "patientweight")


@lru_cache(maxsize=1)
def _read_tables() -> RawTables:
    return {file.stem: pl.read_csv(file, infer_schema=False) for file in _FOLDER.glob("*.csv")}


def raw_tables() -> RawTables:
    """The raw tables, to be changed at will."""
    return dict(_read_tables())


def add_rows(tables: RawTables, name: str, *rows: dict[str, object]) -> None:
    """Add rows to a table; columns that a row lacks are empty."""
    table = tables[name]
    texts = [{column: str(value) for column, value in row.items()} for row in rows]
    added = pl.DataFrame(texts, dict.fromkeys(table.columns, pl.String()))
    tables[name] = pl.concat([table, added])


def write_tables(
    folder: Path, tables: RawTables, *, suffix: str = "csv.gz", upper: bool = True
) -> Path:
    """Write the tables as files, with names and headers in upper or lower case."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        renamed = table.rename(str.upper if upper else str.lower)
        file = folder / f"{name.upper() if upper else name}.{suffix}"
        if suffix == "parquet":
            renamed.select(_typed(column) for column in renamed.columns).write_parquet(file)
        else:
            text = renamed.write_csv().encode()
            file.write_bytes(gzip.compress(text, mtime=0) if suffix == "csv.gz" else text)
    return folder


def _typed(column: str) -> pl.Expr:
    """A column with the type that a database gives it."""
    name = column.lower()
    text = pl.col(column)
    if name in _INTEGERS:
        return text.cast(pl.Int64)
    if name in _NUMBERS:
        return text.cast(pl.Float64)
    if name.endswith(("time", "date")) or name == "dob":
        return text.str.to_datetime("%Y-%m-%d %H:%M:%S")
    return text


@dataclass(frozen=True)
class SourceResult:
    """The tables and batches that the source reads from a folder."""

    tables: Tables
    batches: list[StayBatch]

    @property
    def attrition(self) -> dict[str, int]:
        return self.batches[0].attrition

    @property
    def excluded(self) -> dict[str, int]:
        """Excluded rows by reason, as far as they are known with the first batch."""
        return self.batches[0].exclusions


def make_source(folder: Path, **options: Any) -> Mimic3:
    return Mimic3(folder, Mimic3Options(**options))


def read_folder(folder: Path, **options: Any) -> SourceResult:
    """Read all batches of a folder."""
    batches = list(make_source(folder, **options).batches())
    tables = (pl.concat(getattr(batch, name) for batch in batches) for name in TABLES)
    return SourceResult(Tables(*tables), batches)


def ingest_folder(folder: Path, target: Path, policy: Policy = Policy.quarantine) -> Extract:
    """Ingest a folder with one policy for all rules."""
    config = CohortConfig(
        name="small",
        source="mimic3",
        allow_empty=True,
        quarantine=QuarantineConfig(default=policy, max_share=0.9, rules={}),
    )
    return ingest(make_source(folder), config, target, lambda line: None)
