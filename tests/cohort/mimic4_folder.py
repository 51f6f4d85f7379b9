"""A small folder of MIMIC-IV's tables: the adults 12 and 13 of the small folder of MIMIC-III."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import polars as pl

from flowsheet.cohort.ingest import ingest
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.sources.mimic4 import Mimic4
from flowsheet.config import CohortConfig, Policy, QuarantineConfig
from tests.cohort.mimic3_folder import RawTables, SourceResult, raw_tables

_ICU = ("icustays", "chartevents", "inputevents", "outputevents", "procedureevents")
_NAMES = {"inputevents_mv": "inputevents", "procedureevents_mv": "procedureevents"}
_COLUMNS = {"icustay_id": "stay_id", "startdate": "starttime", "enddate": "stoptime"}
_SUBJECTS = ["12", "13"]


def mimic4_tables() -> RawTables:
    """The raw tables by name, to be changed at will; all cells are text."""
    old = raw_tables()
    del old["inputevents_cv"]
    hadm_ids = old["admissions"].filter(pl.col("subject_id").is_in(_SUBJECTS))["hadm_id"]
    tables = {}
    for name, table in old.items():
        renamed = table.drop("row_id", "dbsource", "error", "iserror", strict=False)
        renamed = renamed.rename(_COLUMNS, strict=False)
        tables[_NAMES.get(name, name)] = renamed.filter(pl.col("subject_id").is_in(_SUBJECTS))
    ages = pl.when(subject_id=pl.lit("12")).then(pl.lit("64")).otherwise(pl.lit("91"))
    years = pl.when(subject_id=pl.lit("12")).then(pl.lit("2159")).otherwise(pl.lit("2170"))
    patients = tables["patients"].drop("dob")
    patients = patients.with_columns(anchor_age=ages, anchor_year=years, dod=pl.lit(None))
    tables["patients"] = patients
    tables["labevents"] = _make_labs()
    orders = tables["prescriptions"].filter(pl.col("hadm_id").is_in(hadm_ids.implode()))
    tables["prescriptions"] = orders.with_row_index("pharmacy_id", 1).with_columns(
        pl.col("pharmacy_id").cast(pl.String), starttime=pl.lit("2160-01-01 06:00:00")
    )
    return tables


def _make_labs() -> pl.DataFrame:
    sampled, stored = "2160-01-01 05:00:00", "2160-01-01 07:30:00"
    rows = [
        {"itemid": "50912", "value": "1.4", "valuenum": "1.4", "storetime": stored},
        {"itemid": "50821", "value": "80", "valuenum": "80", "storetime": stored},
        {"itemid": "52033", "value": "ART.", "valuenum": None, "storetime": stored},
        {"itemid": "51265", "value": "150", "valuenum": "150", "storetime": None},
    ]
    common = {"subject_id": "12", "hadm_id": "112", "charttime": sampled, "valueuom": None}
    return pl.DataFrame([common | row for row in rows], infer_schema_length=None)


def write_mimic4(folder: Path, tables: RawTables, suffix: str = "csv.gz") -> Path:
    """Write the tables in the folders hosp and icu."""
    for name, table in tables.items():
        target = folder / ("icu" if name in _ICU else "hosp")
        target.mkdir(parents=True, exist_ok=True)
        text = table.write_csv().encode()
        data = gzip.compress(text, mtime=0) if suffix == "csv.gz" else text
        (target / f"{name}.{suffix}").write_bytes(data)
    return folder


def make_mimic4(folder: Path, **options: Any) -> Mimic4:
    return Mimic4(folder, Mimic4.Options(**options))


def read_mimic4(folder: Path, **options: Any) -> SourceResult:
    """Read all batches of a folder."""
    batches = list(make_mimic4(folder, **options).batches())
    tables = (pl.concat(getattr(batch, name) for batch in batches) for name in TABLES)
    return SourceResult(Tables(*tables), batches)


def ingest_mimic4(folder: Path, target: Path, policy: Policy = Policy.quarantine) -> Any:
    """Ingest a folder with one policy for all rules."""
    quarantine = QuarantineConfig(default=policy, max_share=0.9, rules={})
    config = CohortConfig(name="small", source="mimic4", allow_empty=True, quarantine=quarantine)
    return ingest(make_mimic4(folder), config, target, lambda line: None)
