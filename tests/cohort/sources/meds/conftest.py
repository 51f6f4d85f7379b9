"""Small MEDS data sets, and how to read them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.sources.meds import Meds
from flowsheet.config import CohortConfig
from flowsheet.testing import meds

Row = dict[str, Any]

STAY_CODES = ["ICU_ADMISSION//*,icu_admission,,,,", "ICU_DISCHARGE//*,icu_discharge,,,,"]
"""Lines of a mapping."""


def make_row(
    subject: int, time: str | None, code: str, value: float | None = None, **more: Any
) -> Row:
    return {"subject_id": subject, "time": time, "code": code, "numeric_value": value, **more}


def make_subject(subject: int, day: int, stay: int | None = None) -> list[Row]:
    """Two days in intensive care, with heart rates, a lactate and an infusion."""
    dates = [f"2150-03-{day + i:02d}" for i in range(3)]
    infusion = {"order_id": 7}
    return [
        make_row(subject, None, "GENDER//F" if subject % 2 else "GENDER//M"),
        make_row(subject, "2090-03-01T00:00:00", "MEDS_BIRTH"),
        make_row(subject, f"{dates[0]}T06:00:00", "HOSPITAL_ADMISSION//URGENT//ROOM"),
        make_row(subject, f"{dates[0]}T08:00:00", "ICU_ADMISSION//MICU", icustay_id=stay),
        make_row(
            subject, f"{dates[0]}T09:00:00", "LAB//220045//bpm", 80.0 + subject, icustay_id=stay
        ),
        make_row(subject, f"{dates[1]}T08:00:00", "LAB//220045//bpm", 98.6, icustay_id=stay),
        make_row(subject, f"{dates[1]}T08:00:00", "LAB//RESULT//50813//mmol/L", 2.1),
        make_row(
            subject,
            f"{dates[0]}T10:00:00",
            "INFUSION_START//221906",
            0.1,
            unit="mcg/kg/min",
            **infusion,
        ),
        make_row(
            subject, f"{dates[0]}T12:00:00", "INFUSION_END//221906", 3.0, unit="mg", **infusion
        ),
        make_row(subject, f"{dates[2]}T08:00:00", "ICU_DISCHARGE//MICU", icustay_id=stay),
    ]


def make_rows(*, ids: bool = True) -> list[Row]:
    """Four subjects; the stays of subjects 1..4 are 499..496, or have no ids."""
    rows: list[Row] = []
    for i in range(1, 5):
        rows += make_subject(i, day=i, stay=500 - i if ids else None)
    return rows


def write_data_set(folder: Path, rows: list[Row], shards: int = 2, **more: Any) -> Path:
    frame = meds.make_shard(rows)
    parts = {f"split/{i}": frame.filter(pl.col("subject_id") % shards == i) for i in range(shards)}
    return meds.write_data_set(folder, parts, **more)


def write_mapping(
    folder: Path, lines: list[str], header: str = "code,kind,name,unit,convert,delay_hours"
) -> Path:
    file = folder / "codes.csv"
    file.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return file


def open_source(root: Path, **options: Any) -> Meds:
    return Meds(root, Meds.Options(**options))


def run_ingest(
    root: Path,
    target: Path,
    max_share: float = 1.0,
    *,
    allow_empty: bool = True,
    **options: Any,
) -> Extract:
    values = {
        "name": "test",
        "source": "meds",
        "path": str(root),
        "options": options,
        "allow_empty": allow_empty,
        "quarantine": {"max_share": max_share},
    }
    config = CohortConfig.model_validate(values)
    return ingest(make_source(config), config, target, lambda line: None)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)
