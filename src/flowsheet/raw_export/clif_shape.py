"""CLIF 3.0: categories of a common list, in its units, and times in UTC.

Rojas et al., Intensive Care Medicine 51:556-569, 2025, doi:10.1007/s00134-025-07848-7. CLIF has no
category for many items of a chart, no time of storage other than that of results, and no orders:
these are left out. ``clif_categories.csv`` has the category, unit and factor of what is charted.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Self

import polars as pl
import yaml

from flowsheet.raw_export.chart_events import ChartedRows
from flowsheet.raw_export.charted_rows import join_rows, split_rows
from flowsheet.raw_export.day_template import DayTemplate
from flowsheet.raw_export.options import ExportOptions
from flowsheet.raw_export.parquet_files import ParquetFiles
from flowsheet.raw_export.patients import Patients
from flowsheet.raw_export.shape import Shape

_TYPES = {
    "text": pl.String(),
    "time": pl.Datetime("us", "UTC"),
    "number": pl.Float64(),
    "integer": pl.Int64(),
}
_CATEGORY = {
    "clif_vitals": "vital",
    "clif_labs": "lab",
    "clif_patient_assessments": "assessment",
    "clif_output": "output",
}
"""Tables with one value a row, and the beginning of their columns' names."""
_FLUIDS = {
    225158: "sodium_chloride",
    225828: "lactated_ringers_solution",
    220949: "dextrose_5_water",
}
"""Categories of the fluids, by MetaVision's items."""
_CULTURES = {
    "BLOOD CULTURE": "blood_buffy",
    "URINE": "genito_urinary_tract",
    "SPUTUM": "respiratory_tract_lower",
}
"""Categories of the specimens; screens are not among CLIF's cultures."""
_VENTILATED_EVERY = "4h"


class ClifShape(Shape):
    """A folder of CLIF tables as Parquet."""

    title: ClassVar[str] = "CLIF"

    def __init__(self, folder: Path, options: ExportOptions) -> None:
        super().__init__(folder, options)
        self._files = ParquetFiles(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._files.close()

    def table_name(self, table: str) -> str:
        """What is charted in one table goes to several of CLIF's."""
        return f"rows of {table}"

    def add_charted(self, template: DayTemplate, patients: Patients, rows: ChartedRows) -> None:
        """Write the rows that have a category."""
        charted = join_rows(split_rows(template, patients, rows))
        categories = _read_categories().filter(table=template.table)
        charted = charted.join(categories, on="quantity", maintain_order="left").with_columns(
            hospitalization_id="KNOWN_HADM_ID",
            recorded_dttm="CHARTTIME",
            number=pl.col("TRUE_VALUE") * pl.col("factor"),
        )
        for (table,), frame in charted.partition_by("clif_table", as_dict=True).items():
            self._add(str(table), frame.with_columns(**_name_values(str(table))))

    def add_tables(self, tables: dict[str, pl.DataFrame]) -> None:
        """Write stays, patients, medication, devices and cultures."""
        for table, frame in _list_tables(tables):
            self._add(table, frame)

    def finish(self) -> None:
        """CLIF has no dictionary of its own."""

    def _add(self, table: str, frame: pl.DataFrame) -> None:
        schema = _read_schemas()[table]
        present = [_convert(name, frame.schema[name]) for name in schema if name in frame.columns]
        rows = frame.select(present)
        missing = [pl.lit(None, schema[name]).alias(name) for name in schema if name not in rows]
        rows = rows.with_columns(missing).select(list(schema)).cast(pl.Schema(schema))
        self.n_rows[table] += rows.height
        self._files.add(table, rows)


def _convert(name: str, kind: pl.DataType) -> pl.Expr:
    """Times in UTC; the ward's clock shows UTC."""
    is_naive = isinstance(kind, pl.Datetime) and kind.time_zone is None
    return pl.col(name).dt.replace_time_zone("UTC") if is_naive else pl.col(name)


@lru_cache(maxsize=1)
def _read_schemas() -> dict[str, dict[str, pl.DataType]]:
    text = (files("flowsheet.raw_export") / "clif.yaml").read_text(encoding="utf-8")
    tables: dict[str, dict[str, str]] = yaml.safe_load(text)
    return {
        table: {name: _TYPES[kind] for kind, names in columns.items() for name in names.split()}
        for table, columns in tables.items()
    }


@lru_cache(maxsize=1)
def _read_categories() -> pl.DataFrame:
    content = (files("flowsheet.raw_export") / "clif_categories.csv").read_bytes()
    return pl.read_csv(content, schema_overrides={"factor": pl.Float64})


def _name_values(table: str) -> dict[str, Any]:
    """The columns of CLIF that hold a row's value."""
    if table == "clif_respiratory_support":
        return {"fio2_set": "number"}
    prefix = _CATEGORY[table]
    columns: dict[str, Any] = {f"{prefix}_name": "category", f"{prefix}_category": "category"}
    if table == "clif_labs":
        times = {"lab_collect_dttm": "CHARTTIME", "lab_result_dttm": "STORETIME"}
        values = {"lab_value": "VALUE", "lab_value_numeric": "number", "reference_unit": "unit"}
        return columns | times | values
    if table == "clif_patient_assessments":
        return columns | {"numerical_value": "number", "text_value": "VALUE"}
    if table == "clif_output":
        columns["output_unit"] = "unit"
    return columns | {f"{prefix}_value": "number"}


def _list_tables(tables: dict[str, pl.DataFrame]) -> Iterator[tuple[str, pl.DataFrame]]:
    """Tables of CLIF out of those of MIMIC-III."""
    ids = {"patient_id": "SUBJECT_ID", "hospitalization_id": "HADM_ID"}
    stays, admissions = tables["ICUSTAYS"], tables["ADMISSIONS"]
    unit = pl.col("FIRST_CAREUNIT")
    yield (
        "clif_adt",
        stays.select(
            **ids,
            hospital_id=pl.lit("simulated"),
            in_dttm="INTIME",
            out_dttm="OUTTIME",
            location_name=unit,
            location_category=pl.lit("icu"),
            location_type=unit,
        ),
    )
    yield "clif_hospitalization", _make_hospitalizations(admissions, tables["PATIENTS"])
    deaths = admissions.group_by("SUBJECT_ID").agg(pl.col("DEATHTIME").max())
    sexes = {"F": "female", "M": "male"}
    yield (
        "clif_patient",
        tables["PATIENTS"]
        .join(deaths, on="SUBJECT_ID")
        .select(
            patient_id="SUBJECT_ID",
            race_category=pl.lit("unknown"),
            sex_name="GENDER",
            sex_category=pl.col("GENDER").replace_strict(sexes),
            death_dttm="DEATHTIME",
        ),
    )
    yield from _list_medication(tables["INPUTEVENTS_MV"])
    yield "clif_respiratory_support", _make_device_rows(tables["PROCEDUREEVENTS_MV"])
    cultures = tables["MICROBIOLOGYEVENTS"].filter(pl.col("SPEC_TYPE_DESC").is_in(list(_CULTURES)))
    yield (
        "clif_microbiology_culture",
        cultures.select(
            **ids,
            collect_dttm=pl.coalesce("CHARTTIME", "CHARTDATE"),
            fluid_name="SPEC_TYPE_DESC",
            fluid_category=pl.col("SPEC_TYPE_DESC").replace(_CULTURES),
            method_category=pl.lit("culture"),
            organism_category=pl.when(pl.col("ORG_NAME").is_not_null()).then(
                pl.lit("escherichia_coli")
            ),
        ),
    )


def _make_hospitalizations(admissions: pl.DataFrame, patients: pl.DataFrame) -> pl.DataFrame:
    rows = admissions.join(
        patients.select("SUBJECT_ID", "ANCHOR_AGE", "ANCHOR_YEAR"), on="SUBJECT_ID"
    )
    is_elective = pl.col("ADMISSION_TYPE") == "ELECTIVE"
    is_dead = pl.col("HOSPITAL_EXPIRE_FLAG") == 1
    return rows.select(
        patient_id="SUBJECT_ID",
        hospitalization_id="HADM_ID",
        admission_dttm="ADMITTIME",
        discharge_dttm="DISCHTIME",
        age_at_admission=pl.col("ANCHOR_AGE")
        + pl.col("ADMITTIME").dt.year()
        - pl.col("ANCHOR_YEAR"),
        admission_type_name="ADMISSION_TYPE",
        admission_type_category=pl.when(is_elective)
        .then(pl.lit("elective"))
        .otherwise(pl.lit("ed")),
        discharge_name="DISCHARGE_LOCATION",
        discharge_category=pl.when(is_dead).then(pl.lit("expired")).otherwise(pl.lit("home")),
    )


def _list_medication(inputs: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Rates from their start to a stop, and single doses; not the fluids without a category."""
    fluid = pl.col("ITEMID").replace_strict(_FLUIDS, default=None, return_dtype=pl.String)
    given = inputs.filter(STATUSDESCRIPTION="FinishedRunning")
    given = given.with_columns(
        hospitalization_id="HADM_ID",
        med_order_id="ORDERID",
        med_category=pl.coalesce("drug", fluid),
        med_route_category=pl.lit("iv"),
    ).drop_nulls("med_category")
    running = given.filter(pl.col("RATE").is_not_null())
    starts = running.with_columns(
        admin_dttm="STARTTIME",
        mar_action_category=pl.lit("start"),
        med_dose="RATE",
        med_dose_unit="RATEUOM",
    )
    stops = running.with_columns(
        admin_dttm="ENDTIME",
        mar_action_category=pl.lit("stop"),
        med_dose=pl.lit(0.0),
        med_dose_unit="RATEUOM",
    )
    yield "clif_medication_admin_continuous", pl.concat([starts, stops])
    yield (
        "clif_medication_admin_intermittent",
        given.filter(pl.col("RATE").is_null()).with_columns(
            admin_dttm="STARTTIME",
            mar_action_category=pl.lit("given"),
            med_dose="AMOUNT",
            med_dose_unit="AMOUNTUOM",
        ),
    )


def _make_device_rows(procedures: pl.DataFrame) -> pl.DataFrame:
    """A tube every few hours of a ventilation, and none at its end."""
    times = pl.datetime_ranges("STARTTIME", "ENDTIME", interval=_VENTILATED_EVERY, closed="left")
    on = procedures.with_columns(recorded_dttm=times).explode("recorded_dttm")
    off = procedures.with_columns(recorded_dttm="ENDTIME")
    parts = [
        on.with_columns(device_category=pl.lit("imv")),
        off.with_columns(device_category=pl.lit("room_air")),
    ]
    return pl.concat(parts).with_columns(hospitalization_id="HADM_ID")
