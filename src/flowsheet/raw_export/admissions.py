"""ICUSTAYS, ADMISSIONS, PATIENTS and SERVICES."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.raw_export.patients import Patients

_DEATH_RATE = 0.08
_HIDDEN_AGE = 91
"""The ANCHOR_AGE of all who are older than 89."""
_MAX_TRUE_AGE = 89
"""Older subjects were born 300 years before their first admission, as de-identification has it."""


def make_admission_tables(patients: Patients, rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    """Rows of the four tables, by table; all stays of the subjects must be here."""
    n_stays = patients.stays.height
    stays = patients.stays.with_columns(
        pl.Series("dies", rng.random(n_stays) < _DEATH_RATE),
        pl.Series("hours_on_ward", rng.integers(1, 96, n_stays)),
    )
    is_last_stay = pl.col("stay_id") == pl.col("stay_id").max().over("subject_id")
    stays = stays.with_columns(dies=pl.col("dies") & is_last_stay)
    admissions = _make_admissions(stays)
    return {
        "ICUSTAYS": _make_icu_stays(stays),
        "ADMISSIONS": admissions,
        "PATIENTS": _make_patients(stays, admissions),
        "SERVICES": _make_services(stays),
    }


def _make_icu_stays(stays: pl.DataFrame) -> pl.DataFrame:
    unit = pl.when(pl.col("is_newborn")).then(pl.lit("NICU")).otherwise("unit")
    days = (pl.col("outtime") - pl.col("intime")).dt.total_seconds() / 86400
    return stays.select(
        SUBJECT_ID="raw_subject",
        HADM_ID="hadm_id",
        ICUSTAY_ID="icustay_id",
        DBSOURCE="dbsource",
        FIRST_CAREUNIT=unit,
        LAST_CAREUNIT=unit,
        FIRST_WARDID=pl.lit(15),
        LAST_WARDID=pl.lit(15),
        INTIME="intime",
        OUTTIME="outtime",
        LOS=days.round(4),
    )


def _make_admissions(stays: pl.DataFrame) -> pl.DataFrame:
    first_stays = stays.filter(~pl.col("shares_admission"))
    last_stays = stays.group_by("hadm_id").agg(pl.all().sort_by("intime").last())
    last_stays = last_stays.select("hadm_id", "outtime", "dies", "hours_on_ward")
    rows = first_stays.drop("outtime", "dies", "hours_on_ward")
    rows = rows.join(last_stays, on="hadm_id", maintain_order="left")
    time_before_stay = pl.col("admitted_at") - pl.col("hospital_admitted_at")
    admitted = pl.min_horizontal(
        pl.col("charting_start") - time_before_stay, pl.col("intime").dt.truncate("1m")
    )
    discharged = pl.col("outtime").dt.truncate("1m") + pl.duration(hours="hours_on_ward")
    dies = pl.col("dies")
    admission_type = pl.col("admission_type").str.to_uppercase()
    discharge_location = pl.when(dies).then(pl.lit("DEAD/EXPIRED")).otherwise(pl.lit("HOME"))
    return rows.select(
        SUBJECT_ID="raw_subject",
        HADM_ID="hadm_id",
        ADMITTIME=admitted,
        DISCHTIME=discharged,
        DEATHTIME=pl.when(dies).then(discharged),
        ADMISSION_TYPE=pl.when("is_newborn").then(pl.lit("NEWBORN")).otherwise(admission_type),
        ADMISSION_LOCATION=pl.lit("EMERGENCY ROOM ADMIT"),
        DISCHARGE_LOCATION=discharge_location,
        INSURANCE=pl.lit("Medicare"),
        ETHNICITY=pl.lit("UNKNOWN/NOT SPECIFIED"),
        DIAGNOSIS=pl.lit("SIMULATED"),
        HOSPITAL_EXPIRE_FLAG=dies.cast(pl.Int64),
        HAS_CHARTEVENTS_DATA=pl.lit(1),
    )


def _make_patients(stays: pl.DataFrame, admissions: pl.DataFrame) -> pl.DataFrame:
    subjects = stays.unique("raw_subject", keep="first", maintain_order=True)
    times = admissions.group_by("SUBJECT_ID").agg(
        pl.col("ADMITTIME").min(), pl.col("DEATHTIME").max()
    )
    subjects = subjects.join(
        times, left_on="raw_subject", right_on="SUBJECT_ID", maintain_order="left"
    )
    is_old = pl.col("age") > _MAX_TRUE_AGE
    years = pl.when(is_old).then(300).otherwise(pl.col("age")).cast(pl.Int64)
    admission_day = pl.col("ADMITTIME").dt.truncate("1d")
    # Half a year more, so that the age in whole years is the ward's.
    birth = admission_day.dt.offset_by(pl.format("-{}y", years)).dt.offset_by("-6mo")
    birth = pl.when(pl.col("is_newborn")).then(admission_day).otherwise(birth)
    death = pl.col("DEATHTIME").dt.truncate("1d")
    return subjects.select(
        SUBJECT_ID="raw_subject",
        GENDER="sex",
        DOB=birth,
        DOD=death,
        DOD_HOSP=death,
        EXPIRE_FLAG=death.is_not_null().cast(pl.Int64),
        ANCHOR_AGE=pl.when("is_newborn")
        .then(0)
        .when(is_old)
        .then(_HIDDEN_AGE)
        .otherwise("age")
        .cast(pl.Int64),
        ANCHOR_YEAR=pl.col("ADMITTIME").dt.year(),
        ANCHOR_YEAR_GROUP=pl.lit("2017 - 2019"),
    )


def _make_services(stays: pl.DataFrame) -> pl.DataFrame:
    service = (
        pl.when(pl.col("is_newborn"))
        .then(pl.lit("NB"))
        .when(pl.col("unit") == "SICU")
        .then(pl.lit("SURG"))
        .otherwise(pl.lit("MED"))
    )
    return stays.filter(~pl.col("shares_admission")).select(
        SUBJECT_ID="raw_subject",
        HADM_ID="hadm_id",
        TRANSFERTIME="intime",
        CURR_SERVICE=service,
    )
