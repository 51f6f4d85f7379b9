"""What is done at the bedside around an onset: cultures are taken, and some patients are ventilated."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.mimic_export.patients import Patients

SPECIMENS = ("BLOOD CULTURE", "URINE", "SPUTUM", "MRSA SCREEN")
ROUTINE_CULTURES = 0.15
"""Per day, septic or not."""


def cultures(
    sick: pl.DataFrame, who: Patients, ids: pl.DataFrame, rng: np.random.Generator
) -> pl.DataFrame:
    """Blood at every onset, and others by routine; some bear a date only."""
    about = rng.integers(-120, 120, sick.height).astype("timedelta64[m]")
    first = sick.select(
        pl.col("stay").cast(pl.Int64),
        time=(pl.col("onset") + pl.Series(about.astype("timedelta64[us]"))).dt.truncate("1m"),
        SPEC_TYPE_DESC=pl.lit(SPECIMENS[0]),
    )
    days = np.flatnonzero(rng.random(len(who.day_stay)) < ROUTINE_CULTURES)
    routine = pl.DataFrame(
        {
            "stay": who.day_stay[days],
            "time": who.day_start[days] + rng.integers(0, 1440, len(days)).astype("timedelta64[m]"),
            "SPEC_TYPE_DESC": np.array(SPECIMENS)[rng.integers(0, 4, len(days))],
        },
        schema_overrides={"stay": pl.Int64},
    )
    every = pl.concat([first, routine]).join(ids, on="stay", maintain_order="left")
    code = pl.col("SPEC_TYPE_DESC").replace_strict(
        dict(zip(SPECIMENS, (70012, 70079, 70062, 70091), strict=True))
    )
    told = pl.Series(rng.random(every.height) < 0.9)
    grown = pl.when(pl.Series(rng.random(every.height) < 0.2)).then(pl.lit("ESCHERICHIA COLI"))
    return every.sort("stay", "time", maintain_order=True).select(
        *("SUBJECT_ID", "HADM_ID", "SPEC_TYPE_DESC"),
        CHARTDATE=pl.col("time").dt.truncate("1d"),
        CHARTTIME=pl.when(told).then("time"),
        SPEC_ITEMID=code,
        ORG_NAME=grown,
    )


def ventilated(sick: pl.DataFrame, ids: pl.DataFrame) -> pl.DataFrame:
    """Every other septic stretch of MetaVision's patients is ventilated from its onset on."""
    begun = sick.filter(pl.col("stay") % 2 == 0).with_columns(pl.col("stay").cast(pl.Int64))
    rows = begun.join(ids.filter("metavision"), on="stay", maintain_order="left")
    start = pl.col("onset").dt.truncate("1m")
    end = pl.min_horizontal(
        start + pl.duration(hours=pl.col("_to") - pl.col("_from")), "leaves"
    ).dt.truncate("1m")
    return rows.filter(end > start).select(
        *("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID"),
        STARTTIME=start,
        ENDTIME=end,
        ITEMID=pl.lit(225792),
        VALUE=(end - start).dt.total_minutes(),
        VALUEUOM=pl.lit("min"),
        STORETIME=end + pl.duration(minutes=10),
        CGID=pl.lit(17000),
        ORDERCATEGORYNAME=pl.lit("Ventilation"),
        ORDERCATEGORYDESCRIPTION=pl.lit("Task"),
        ISOPENBAG=pl.lit(1),
        CONTINUEINNEXTDEPT=pl.lit(0),
        CANCELREASON=pl.lit(0),
        STATUSDESCRIPTION=pl.lit("FinishedRunning"),
    )
