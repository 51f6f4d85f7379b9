"""ICUSTAYS, ADMISSIONS, PATIENTS and SERVICES of some stays; D_ITEMS and D_LABITEMS once."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort.catalogue import mimic3_items
from flowsheet.mimic_export.items import charted
from flowsheet.mimic_export.patients import Patients

DEATHS = 0.08
OLD = 89
"""Older subjects were born 300 years before their first admission, as de-identification has it."""


def people(who: Patients, rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    """The four tables' rows; a subject's stays must all be here."""
    stays = who.stays.with_columns(
        pl.Series("_died", rng.random(who.stays.height) < DEATHS),
        pl.Series("_after", rng.integers(1, 96, who.stays.height)),
    )
    admissions = _admissions(stays)
    return {
        "ICUSTAYS": _icustays(stays),
        "ADMISSIONS": admissions,
        "PATIENTS": _patients(stays, admissions),
        "SERVICES": _services(stays),
    }


def _icustays(stays: pl.DataFrame) -> pl.DataFrame:
    unit = pl.when(pl.col("_born")).then(pl.lit("NICU")).otherwise("unit")
    days = (pl.col("outtime") - pl.col("intime")).dt.total_seconds() / 86400
    return stays.select(
        SUBJECT_ID="raw_subject", HADM_ID="hadm_id", ICUSTAY_ID="icustay_id", DBSOURCE="dbsource", FIRST_CAREUNIT=unit,
        LAST_CAREUNIT=unit, FIRST_WARDID=pl.lit(15), LAST_WARDID=pl.lit(15), INTIME="intime", OUTTIME="outtime",
        LOS=days.round(4),
    )  # fmt: skip


def _admissions(stays: pl.DataFrame) -> pl.DataFrame:
    first, last = (
        stays.filter(~pl.col("_joined")),
        stays.group_by("hadm_id").agg(pl.all().sort_by("intime").last()),
    )
    last = last.select("hadm_id", "outtime", "_died", "_after")
    both = first.drop("outtime", "_died", "_after").join(last, on="hadm_id", maintain_order="left")
    before = pl.col("admitted_at") - pl.col("hospital_admitted_at")
    left = pl.col("outtime").dt.truncate("1m") + pl.duration(hours="_after")
    died = pl.col("_died")
    kind = (
        pl.when(pl.col("_born"))
        .then(pl.lit("NEWBORN"))
        .otherwise(pl.col("admission_type").str.to_uppercase())
    )
    came = pl.min_horizontal(pl.col("_start") - before, pl.col("intime").dt.truncate("1m"))
    return both.select(
        SUBJECT_ID="raw_subject", HADM_ID="hadm_id", ADMITTIME=came, DISCHTIME=left,
        DEATHTIME=pl.when(died).then(left), ADMISSION_TYPE=kind, ADMISSION_LOCATION=pl.lit("EMERGENCY ROOM ADMIT"),
        DISCHARGE_LOCATION=pl.when(died).then(pl.lit("DEAD/EXPIRED")).otherwise(pl.lit("HOME")),
        INSURANCE=pl.lit("Medicare"), ETHNICITY=pl.lit("UNKNOWN/NOT SPECIFIED"), DIAGNOSIS=pl.lit("SIMULATED"),
        HOSPITAL_EXPIRE_FLAG=died.cast(pl.Int64), HAS_CHARTEVENTS_DATA=pl.lit(1),
    )  # fmt: skip


def _patients(stays: pl.DataFrame, admissions: pl.DataFrame) -> pl.DataFrame:
    about = stays.unique("raw_subject", keep="first", maintain_order=True)
    came = admissions.group_by("SUBJECT_ID").agg(
        pl.col("ADMITTIME").min(), pl.col("DEATHTIME").max()
    )
    about = about.join(came, left_on="raw_subject", right_on="SUBJECT_ID", maintain_order="left")
    years = pl.when(pl.col("age") > OLD).then(300).otherwise(pl.col("age")).cast(pl.Int64)
    # half a year over, so that the age in whole years is the ward's
    birth = (
        pl.col("ADMITTIME")
        .dt.truncate("1d")
        .dt.offset_by(pl.format("-{}y", years))
        .dt.offset_by("-6mo")
    )
    birth = pl.when(pl.col("_born")).then(pl.col("ADMITTIME").dt.truncate("1d")).otherwise(birth)
    died = pl.col("DEATHTIME").dt.truncate("1d")
    return about.select(
        SUBJECT_ID="raw_subject", GENDER="sex", DOB=birth, DOD=died, DOD_HOSP=died,
        EXPIRE_FLAG=died.is_not_null().cast(pl.Int64),
    )  # fmt: skip


def _services(stays: pl.DataFrame) -> pl.DataFrame:
    service = (
        pl.when(pl.col("_born"))
        .then(pl.lit("NB"))
        .when(pl.col("unit") == "SICU")
        .then(pl.lit("SURG"))
    )
    return stays.filter(~pl.col("_joined")).select(
        SUBJECT_ID="raw_subject",
        HADM_ID="hadm_id",
        TRANSFERTIME="intime",
        CURR_SERVICE=service.otherwise(pl.lit("MED")),
    )


def dictionaries(others: dict[str, list[int]]) -> dict[str, pl.DataFrame]:
    """D_ITEMS and D_LABITEMS: the catalogue's items that are charted, and the others by system (``lab`` too)."""
    known = mimic3_items().unique("itemid", keep="first", maintain_order=True).sort("itemid")
    used = {c.carevue for c in charted()} | {c.metavision for c in charted()}
    known = known.filter(pl.col("itemid").is_in(sorted(used)))
    bedside = known.filter(pl.col("table") != "labevents").select(
        ITEMID="itemid", LABEL="label", DBSOURCE="system", LINKSTO="table", UNITNAME="unit"
    )
    laboratory = known.filter(table="labevents").select(
        ITEMID="itemid", LABEL="label", FLUID=pl.lit("Blood")
    )
    rest = [
        pl.DataFrame({"ITEMID": ids}).with_columns(
            LABEL=pl.format("Simulated item {}", "ITEMID"),
            DBSOURCE=pl.lit(system),
            LINKSTO=pl.lit("chartevents"),
        )
        for system, ids in others.items()
        if system != "lab"
    ]
    more = pl.DataFrame({"ITEMID": others["lab"]}).with_columns(
        LABEL=pl.format("Simulated test {}", "ITEMID")
    )
    return {
        "D_ITEMS": pl.concat([bedside, *rest], how="diagonal_relaxed"),
        "D_LABITEMS": pl.concat([laboratory, more], how="diagonal_relaxed"),
    }
