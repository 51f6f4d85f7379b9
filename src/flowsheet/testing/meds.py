"""MEDS data sets for tests: small ones from rows, or MIMIC-III's tables as a MEDS extraction.

:func:`convert_mimic3` names the codes as the MIMIC-IV extraction did before its version 0.1.0; see
https://github.com/Medical-Event-Data-Standard/MIMIC_IV_MEDS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from flowsheet.state.json_files import write_json

SCHEMA: dict[str, pl.DataType] = {
    "subject_id": pl.Int64(),
    "time": pl.Datetime("us"),
    "code": pl.String(),
    "numeric_value": pl.Float32(),
    "text_value": pl.String(),
    "icustay_id": pl.Int64(),
    "order_id": pl.Int64(),
    "poe_id": pl.String(),
    "unit": pl.String(),
    "route": pl.String(),
    "storetime": pl.Datetime("us"),
}
"""The standard's columns, and the additional ones of the extraction from MIMIC."""


def make_shard(rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """A shard of these rows; missing columns are null, times may be ISO text.

    >>> make_shard([{"subject_id": 1, "code": "GENDER//F"}]).shape
    (1, 11)
    """
    return pl.DataFrame([_parse_times(row) for row in rows], schema=SCHEMA)


def _parse_times(row: Mapping[str, Any]) -> dict[str, Any]:
    times = {name: row[name] for name in ("time", "storetime") if row.get(name)}
    return {**row, **{name: datetime.fromisoformat(text) for name, text in times.items()}}


def write_data_set(
    root: Path, shards: Mapping[str, pl.DataFrame], licence: str = "made for a test"
) -> Path:
    """Write a data set: ``data/<name>.parquet`` for each shard, sorted, and the metadata."""
    (root / "metadata").mkdir(parents=True, exist_ok=True)
    for name, frame in shards.items():
        file = root / "data" / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        frame.sort("subject_id", "time", nulls_last=False, maintain_order=True).write_parquet(file)
    write_json(
        root / "metadata" / "dataset.json",
        {"dataset_name": "test", "meds_version": "0.4.1", "license": licence},
    )
    codes = pl.concat(frame.select("code") for frame in shards.values()).unique().sort("code")
    empty = {
        "description": pl.lit(None, pl.String),
        "parent_codes": pl.lit(None, pl.List(pl.String)),
    }
    codes.with_columns(**empty).write_parquet(root / "metadata" / "codes.parquet")
    return root


def convert_mimic3(raw: Path, root: Path, shards: int = 2) -> Path:
    """Write MIMIC-III's tables as a MEDS data set.

    Included are chart and laboratory events, urine, infusions of MetaVision, admissions, patients,
    and cultures, which the MIMIC-IV extraction omits. ``storetime`` is the table's own; laboratory
    results, which have none, are stored two hours after charting. Chart errors and rewritten inputs
    are omitted; a culture without a time has the end of its day.

    Args:
        raw: The folder of MIMIC-III's tables (csv.gz, headers in lower case).
        root: The folder of the data set.
        shards: The number of shards.
    """
    rows = pl.concat(
        [*_patients(raw), *_measurements(raw), *_infusions(raw), _cultures(raw)],
        how="diagonal_relaxed",
    ).match_to_schema(
        SCHEMA,
        missing_columns="insert",
        float_cast="upcast",
        integer_cast="upcast",
        extra_columns="ignore",
    )
    subjects = rows["subject_id"].unique().sort()
    number = pl.DataFrame({"subject_id": subjects, "shard": range(subjects.len())})
    numbered = rows.join(number.with_columns(pl.col("shard") % shards), on="subject_id")
    parts = numbered.partition_by("shard", as_dict=True, include_key=False)
    frames = {f"train/{i}": frame for (i,), frame in sorted(parts.items())}
    return write_data_set(root, frames, "ODbL 1.0")


def _table(raw: Path, name: str) -> pl.DataFrame:
    frame = pl.read_csv(raw / f"{name}.csv.gz", infer_schema=False)
    times = [c for c in frame.columns if c.endswith("time") or c == "dob"]
    ids = [c for c in ("subject_id", "hadm_id", "icustay_id", "orderid") if c in frame.columns]
    moment = pl.col(times).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False)
    return frame.with_columns(moment, pl.col(ids).cast(pl.Int64))


def _code(*parts: str | pl.Expr) -> pl.Expr:
    known = [pl.lit(p) if isinstance(p, str) else p.fill_null("UNK") for p in parts]
    return pl.concat_str(known, separator="//")


def _number(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Float64, strict=False).cast(pl.Float32)


def _patients(raw: Path) -> list[pl.DataFrame]:
    patients = _table(raw, "PATIENTS")
    admissions = _table(raw, "ADMISSIONS")
    stays = _table(raw, "ICUSTAYS")
    kind, place = pl.col("admission_type"), pl.col("admission_location")
    return [
        patients.select("subject_id", code=_code("GENDER", pl.col("gender"))),
        patients.select("subject_id", time="dob", code=pl.lit("MEDS_BIRTH")),
        admissions.drop_nulls("deathtime").select(
            "subject_id", time="deathtime", code=pl.lit("MEDS_DEATH")
        ),
        admissions.select(
            "subject_id", time="admittime", code=_code("HOSPITAL_ADMISSION", kind, place)
        ),
        stays.select(
            "subject_id",
            time="intime",
            code=_code("ICU_ADMISSION", pl.col("first_careunit")),
            icustay_id="icustay_id",
        ),
        stays.select(
            "subject_id",
            time="outtime",
            code=_code("ICU_DISCHARGE", pl.col("last_careunit")),
            icustay_id="icustay_id",
        ),
    ]


def _measurements(raw: Path) -> list[pl.DataFrame]:
    chart = _table(raw, "CHARTEVENTS")
    lab = _table(raw, "LABEVENTS")
    output = _table(raw, "OUTPUTEVENTS")
    item, unit = pl.col("itemid"), pl.col("valueuom")
    stored = pl.col("charttime") + pl.duration(hours=2)
    chart = chart.filter(pl.col("error").ne_missing("1"))
    chart = chart.with_columns(code=_code("LAB", item, unit))
    lab = lab.with_columns(code=_code("LAB", item, unit), storetime=stored)
    output = output.filter(pl.col("iserror").ne_missing("1"))
    output = output.with_columns(
        code=_code("SUBJECT_FLUID_OUTPUT", item, unit), valuenum="value", value=None
    )
    columns = ("subject_id", "code", "storetime")
    return [
        frame.select(
            *columns, time="charttime", numeric_value=_number("valuenum"), text_value="value"
        )
        for frame in (chart, lab, output)
    ]


def _infusions(raw: Path) -> list[pl.DataFrame]:
    inputs = _table(raw, "INPUTEVENTS_MV").filter(pl.col("statusdescription") != "Rewritten")
    columns = {
        "INFUSION_START": ("starttime", "rate", "rateuom"),
        "INFUSION_END": ("endtime", "amount", "amountuom"),
    }
    return [
        inputs.select(
            "subject_id",
            "storetime",
            time=time,
            code=_code(code, pl.col("itemid")),
            numeric_value=_number(number),
            unit=unit,
            order_id="orderid",
        )
        for code, (time, number, unit) in columns.items()
    ]


def _cultures(raw: Path) -> pl.DataFrame:
    cultures = _table(raw, "MICROBIOLOGYEVENTS")
    day = pl.col("chartdate").str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False)
    time = pl.coalesce("charttime", day + pl.duration(days=1))
    code = _code("CULTURE", pl.col("spec_type_desc"))
    rows = cultures.select("subject_id", time=time, storetime=time, code=code)
    return rows.unique().sort(pl.all())
