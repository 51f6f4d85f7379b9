"""MICROBIOLOGYEVENTS and PROCEDUREEVENTS_MV: cultures and ventilations in episodes of sepsis."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.raw_export.patients import Patients

_SPECIMENS = {"BLOOD CULTURE": 70012, "URINE": 70079, "SPUTUM": 70062, "MRSA SCREEN": 70091}
"""Specimens and their item ids."""
_ROUTINE_CULTURES_PER_DAY = 0.15
_VENTILATION_ITEM_ID = 225792


def make_culture_rows(
    episodes: pl.DataFrame, patients: Patients, ids: pl.DataFrame, rng: np.random.Generator
) -> pl.DataFrame:
    """Rows of MICROBIOLOGYEVENTS: a blood culture at every onset, and cultures by routine.

    Some have a date and no time.

    Args:
        episodes: episodes of sepsis with the position of their ``stay``.
        patients: the stays and their days.
        ids: the database's ids by ``stay``.
        rng: random numbers.
    """
    names = list(_SPECIMENS)
    delay = rng.integers(-120, 120, episodes.height).astype("timedelta64[m]")
    time = pl.col("onset") + pl.Series(delay.astype("timedelta64[us]"))
    at_onset = episodes.select(
        pl.col("stay").cast(pl.Int64),
        time=time.dt.truncate("1m"),
        SPEC_TYPE_DESC=pl.lit(names[0]),
    )
    n_days = len(patients.day_stay)
    days = np.flatnonzero(rng.random(n_days) < _ROUTINE_CULTURES_PER_DAY)
    minutes = rng.integers(0, 1440, len(days)).astype("timedelta64[m]")
    routine = pl.DataFrame(
        {
            "stay": patients.day_stay[days],
            "time": patients.day_start[days] + minutes,
            "SPEC_TYPE_DESC": np.array(names)[rng.integers(0, len(names), len(days))],
        },
        schema_overrides={"stay": pl.Int64},
    )
    cultures = pl.concat([at_onset, routine]).join(ids, on="stay", maintain_order="left")
    has_time = pl.Series(rng.random(cultures.height) < 0.9)
    has_growth = pl.Series(rng.random(cultures.height) < 0.2)
    cultures = cultures.sort("stay", "time", maintain_order=True)
    return cultures.select(
        *("SUBJECT_ID", "HADM_ID", "SPEC_TYPE_DESC"),
        CHARTDATE=pl.col("time").dt.truncate("1d"),
        CHARTTIME=pl.when(has_time).then("time"),
        SPEC_ITEMID=pl.col("SPEC_TYPE_DESC").replace_strict(_SPECIMENS),
        ORG_NAME=pl.when(has_growth).then(pl.lit("ESCHERICHIA COLI")),
    )


def make_ventilation_rows(episodes: pl.DataFrame, ids: pl.DataFrame) -> pl.DataFrame:
    """Rows of PROCEDUREEVENTS_MV: MetaVision's septic patients with even positions are ventilated.

    Args:
        episodes: episodes of sepsis with the position of their ``stay``.
        ids: the database's ids by ``stay``.
    """
    ventilated = episodes.filter(pl.col("stay") % 2 == 0).with_columns(
        pl.col("stay").cast(pl.Int64)
    )
    rows = ventilated.join(ids.filter("is_metavision"), on="stay", maintain_order="left")
    start = pl.col("onset").dt.truncate("1m")
    duration = pl.duration(hours=pl.col("end_hour") - pl.col("start_hour"))
    end = pl.min_horizontal(start + duration, "outtime").dt.truncate("1m")
    return rows.filter(end > start).select(
        *("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID"),
        STARTTIME=start,
        ENDTIME=end,
        ITEMID=pl.lit(_VENTILATION_ITEM_ID),
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
