"""MEDS: one row a fact, with the codes that MIMIC_IV_MEDS gives to tables of MIMIC-IV.

https://github.com/Medical-Event-Data-Standard/meds, version 0.4. MEDS has one time a row; the time
of storage is in the column ``storetime``, which the standard allows. It has no flag for entries
that were rewritten, which are left out, nor for cultures of which only the day is known.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import polars as pl

from flowsheet.cohort.schema import TIME
from flowsheet.raw_export.chart_events import ChartedRows
from flowsheet.raw_export.charted_rows import join_rows, split_rows
from flowsheet.raw_export.day_template import DayTemplate
from flowsheet.raw_export.options import ExportOptions
from flowsheet.raw_export.parquet_files import ParquetFiles
from flowsheet.raw_export.patients import Patients
from flowsheet.raw_export.shape import Shape
from flowsheet.state.json_files import write_json

BLOCKS_PER_SHARD = 10
_SPLIT = "train"
_PREFIX = {"OUTPUTEVENTS": "SUBJECT_FLUID_OUTPUT"}
_COLUMNS: dict[str, pl.DataType] = {
    "subject_id": pl.Int64(),
    "time": TIME,
    "code": pl.String(),
    "numeric_value": pl.Float32(),
    "text_value": pl.String(),
    "unit": pl.String(),
    "hadm_id": pl.Int64(),
    "icustay_id": pl.Int64(),
    "order_id": pl.Int64(),
    "storetime": TIME,
}


class MedsShape(Shape):
    """A MEDS data set; a shard has the rows of about a thousand stays."""

    title: ClassVar[str] = "MEDS"

    def __init__(self, folder: Path, options: ExportOptions) -> None:
        super().__init__(folder, options)
        self._files = ParquetFiles(folder)
        self._rows: list[pl.DataFrame] = []
        self._subjects: list[pl.Series] = []
        self._codes: set[str] = set()
        self._n_blocks = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._files.close()

    def table_name(self, table: str) -> str:
        """All rows are in the shards."""
        return "data"

    def add_charted(self, template: DayTemplate, patients: Patients, rows: ChartedRows) -> None:
        """Keep the rows until those of all tables of the block are there."""
        table = join_rows(split_rows(template, patients, rows))
        prefix = _PREFIX.get(template.table, "LAB")
        has_number = pl.col("VALUENUM").is_not_null()
        row = _describe(
            time="CHARTTIME",
            code=pl.format(f"{prefix}//{{}}//{{}}", "ITEMID", pl.col("UNIT").fill_null("UNK")),
            numeric_value=pl.col("VALUENUM").cast(pl.Float32),
            text_value=pl.when(~has_number).then("VALUE"),
            storetime="STORETIME",
        )
        self._rows.append(table.select(**row).cast(pl.Schema(_COLUMNS)))

    def add_tables(self, tables: dict[str, pl.DataFrame]) -> None:
        """Write the rows of the block, by subject and time."""
        facts = [frame.select(**row) for frame, row in _list_facts(tables) if frame.height]
        self._rows += [frame.cast(pl.Schema(_COLUMNS)) for frame in facts]
        rows = pl.concat(self._rows).sort("subject_id", "time", "code", nulls_last=False)
        self._rows.clear()
        self._subjects.append(rows["subject_id"].unique())
        self._codes.update(rows["code"].unique())
        self.n_rows["data"] += rows.height
        shard, place = divmod(self._n_blocks, BLOCKS_PER_SHARD)
        if place == 0:
            self._files.close()
        self._files.add(f"data/{_SPLIT}/{shard}", rows)
        self._n_blocks += 1

    def finish(self) -> None:
        """Write the metadata."""
        folder = self.folder / "metadata"
        folder.mkdir()
        metadata = {
            "dataset_name": "flowsheet's simulated ward",
            "etl_name": "flowsheet simulate",
            "meds_version": "0.4.0",
            "license": "Apache-2.0 (simulated, no patient's data)",
        }
        write_json(folder / "dataset.json", metadata)
        subjects = pl.concat(self._subjects).unique().sort()
        splits = subjects.to_frame().with_columns(split=pl.lit(_SPLIT))
        splits.write_parquet(folder / "subject_splits.parquet")
        codes = pl.DataFrame({"code": sorted(self._codes)}).with_columns(
            description=pl.lit(None, pl.String), parent_codes=pl.lit(None, pl.List(pl.String))
        )
        codes.write_parquet(folder / "codes.parquet")


def _describe(**values: pl.Expr | str) -> dict[str, pl.Expr]:
    """The columns of MEDS: these values, the row's ids, and nothing elsewhere."""
    ids = {"subject_id": pl.col("SUBJECT_ID"), "hadm_id": pl.col("HADM_ID")}
    given = {
        name: pl.col(value) if isinstance(value, str) else value for name, value in values.items()
    }
    return {name: (ids | given).get(name, pl.lit(None)) for name in _COLUMNS}


def _list_facts(
    tables: dict[str, pl.DataFrame],
) -> list[tuple[pl.DataFrame, dict[str, pl.Expr]]]:
    """Frames, and what a row of each becomes."""
    stays, admissions = tables["ICUSTAYS"], tables["ADMISSIONS"]
    subjects = tables["PATIENTS"].with_columns(HADM_ID=None)
    deaths = admissions.drop_nulls("DEATHTIME")
    infusions = tables["INPUTEVENTS_MV"].filter(STATUSDESCRIPTION="FinishedRunning")
    procedures = tables["PROCEDUREEVENTS_MV"]
    orders = tables["PRESCRIPTIONS"]
    stay, unit = pl.col("ICUSTAY_ID"), pl.col("FIRST_CAREUNIT")
    item, order = pl.col("ITEMID"), pl.col("ORDERID")
    stored = pl.col("STORETIME")
    admission_code = pl.format("HOSPITAL_ADMISSION//{}//{}", "ADMISSION_TYPE", "ADMISSION_LOCATION")
    start = {
        "time": pl.col("STARTTIME"),
        "code": pl.format("INFUSION_START//{}", item),
        "numeric_value": pl.col("RATE"),
        "unit": pl.col("RATEUOM"),
    }
    end = {
        "time": pl.col("ENDTIME"),
        "code": pl.format("INFUSION_END//{}", item),
        "numeric_value": pl.col("AMOUNT"),
        "unit": pl.col("AMOUNTUOM"),
    }
    given = {"icustay_id": stay, "order_id": order, "storetime": stored}
    procedure = {"icustay_id": stay, "storetime": stored}
    culture_time = pl.coalesce("CHARTTIME", "CHARTDATE")
    return [
        (subjects, _describe(code=pl.format("GENDER//{}", "GENDER"))),
        (subjects, _describe(time="DOB", code=pl.lit("MEDS_BIRTH"))),
        (deaths, _describe(time="DEATHTIME", code=pl.lit("MEDS_DEATH"))),
        (admissions, _describe(time="ADMITTIME", code=admission_code)),
        (
            admissions,
            _describe(
                time="DISCHTIME", code=pl.format("HOSPITAL_DISCHARGE//{}", "DISCHARGE_LOCATION")
            ),
        ),
        (
            stays,
            _describe(time="INTIME", code=pl.format("ICU_ADMISSION//{}", unit), icustay_id=stay),
        ),
        (
            stays,
            _describe(time="OUTTIME", code=pl.format("ICU_DISCHARGE//{}", unit), icustay_id=stay),
        ),
        (infusions, _describe(**start, **given)),
        (infusions, _describe(**end, **given)),
        (
            procedures,
            _describe(time="STARTTIME", code=pl.format("PROCEDURE//START//{}", item), **procedure),
        ),
        (
            procedures,
            _describe(time="ENDTIME", code=pl.format("PROCEDURE//END//{}", item), **procedure),
        ),
        (orders, _describe(time="STARTTIME", code=pl.format("MEDICATION//START//{}", "DRUG"))),
        (orders, _describe(time="STOPTIME", code=pl.format("MEDICATION//STOP//{}", "DRUG"))),
        (
            tables["MICROBIOLOGYEVENTS"],
            _describe(time=culture_time, code=pl.format("CULTURE//{}", "SPEC_TYPE_DESC")),
        ),
    ]
