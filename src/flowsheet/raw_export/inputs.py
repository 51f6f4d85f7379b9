"""INPUTEVENTS_MV and INPUTEVENTS_CV: doses of drugs, and fluids that the catalogue does not map."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.raw_export.doses import ANTIBIOTICS
from flowsheet.raw_export.options import ExportOptions
from flowsheet.raw_export.patients import Patients
from flowsheet.typing import Ints

_FLUIDS_PER_DAY_MV = 28
_FLUIDS_PER_DAY_CV = 84
_FLUID_IDS_MV = (225158, 225828, 220949, 226452, 226453, 225799, 225943, 226361)
_FLUID_IDS_CV = (30018, 30021, 30013, 30056, 30059, 30005, 30008, 30101, 30160, 44184)
_N_FLUIDS = 8
"""Fluids that are drawn, of either system."""
_IDS = ("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID")


def make_metavision_rows(doses: pl.DataFrame) -> pl.DataFrame:
    """Doses as rows of INPUTEVENTS_MV, with ``drug``."""
    is_infusion = pl.col("rate").is_not_null()
    is_antibiotic = pl.col("drug").is_in(list(ANTIBIOTICS))
    order_id = pl.int_range(pl.len()) + pl.col("ICUSTAY_ID") * 100
    single_dose_end = pl.col("start") + pl.duration(minutes=1)
    # a catalogue dose per kg is an amount of the whole body in mg
    infused = pl.col("amount") * pl.col("weight") / 1000
    amount = pl.when(is_antibiotic).then(1.0).when(is_infusion).then(infused).otherwise("amount")
    amount_unit = (
        pl.when(is_antibiotic)
        .then(pl.lit("dose"))
        .when(pl.col("drug") == "insulin")
        .then(pl.lit("units"))
        .otherwise(pl.lit("mg"))
    )
    category = pl.when(is_antibiotic).then(pl.lit("08-Antibiotics (IV)"))
    kind = pl.when(is_infusion).then(pl.lit("Continuous Med")).otherwise(pl.lit("Drug Push"))
    return doses.select(
        *("drug", *_IDS),
        STARTTIME="start",
        ENDTIME=pl.when(is_infusion).then("end").otherwise(single_dose_end),
        ITEMID="metavision_itemid",
        AMOUNT=amount,
        AMOUNTUOM=amount_unit,
        RATE=pl.col("rate") / 60,
        RATEUOM=pl.when(is_infusion).then(pl.lit("mcg/kg/min")),
        STORETIME=pl.col("start") + pl.duration(minutes=12),
        CGID=pl.lit(17500),
        ORDERCATEGORYNAME=category.otherwise(pl.lit("01-Drips")),
        ORDERCATEGORYDESCRIPTION=kind,
        TOTALAMOUNT=pl.lit(250),
        **_describe_order(order_id),
        ORIGINALAMOUNT="amount",
        ORIGINALRATE="rate",
    )


def _describe_order(order_id: pl.Expr) -> dict[str, pl.Expr]:
    """The columns of INPUTEVENTS_MV that all orders have alike."""
    return {
        "ORDERID": order_id,
        "LINKORDERID": order_id,
        "ORDERCOMPONENTTYPEDESCRIPTION": pl.lit("Main order parameter"),
        "PATIENTWEIGHT": pl.col("weight"),
        "TOTALAMOUNTUOM": pl.lit("ml"),
        "ISOPENBAG": pl.lit(0),
        "CONTINUEINNEXTDEPT": pl.lit(0),
        "CANCELREASON": pl.lit(0),
        "STATUSDESCRIPTION": pl.lit("FinishedRunning"),
    }


def make_rewritten_rows(
    rows: pl.DataFrame, options: ExportOptions, rng: np.random.Generator
) -> pl.DataFrame:
    """Withdrawn entries of some infusions of INPUTEVENTS_MV: at a tenfold rate, and marked."""
    is_chosen = pl.Series(rng.random(rows.height) < options.rewritten)
    chosen = rows.filter(is_chosen & pl.col("RATE").is_not_null())
    return chosen.with_columns(
        pl.col("RATE", "AMOUNT") * 10,
        CANCELREASON=pl.lit(1),
        STATUSDESCRIPTION=pl.lit("Rewritten"),
    )


def make_carevue_rows(doses: pl.DataFrame) -> pl.DataFrame:
    """Doses as rows of INPUTEVENTS_CV, with ``drug``, ``start`` and ``end``.

    CareVue charts an infusion as its rate once an hour, and a single dose as an amount.
    """
    n_rows = (pl.col("end") - pl.col("start")).dt.total_minutes() // 60 + 1
    rows = doses.with_columns(hour=pl.int_ranges(0, n_rows)).explode("hour", empty_as_null=False)
    is_infusion = pl.col("rate").is_not_null()
    order_id = pl.int_range(pl.len()) + pl.col("ICUSTAY_ID") * 100
    charted_at = pl.col("start") + pl.duration(hours="hour")
    is_insulin = pl.col("drug") == "insulin"
    return rows.select(
        *("drug", "start", "end", *_IDS),
        CHARTTIME=charted_at,
        ITEMID="carevue_itemid",
        AMOUNT=pl.when(is_infusion).then(None).otherwise("amount"),
        AMOUNTUOM=pl.when(is_insulin).then(pl.lit("U")).otherwise(pl.lit("mg")),
        RATE=pl.col("rate") / 60,
        RATEUOM=pl.when(is_infusion).then(pl.lit("mcgkgmin")),
        STORETIME=charted_at + pl.duration(minutes=20),
        CGID=pl.lit(15500),
        ORDERID=order_id,
        LINKORDERID=order_id,
        ORIGINALROUTE=pl.lit("Intravenous Push"),
    )


def make_metavision_fluid_rows(
    patients: Patients, ids: pl.DataFrame, rng: np.random.Generator
) -> pl.DataFrame:
    """Rows of INPUTEVENTS_MV with fluids and feeds."""
    days = np.flatnonzero(patients.is_metavision[patients.day_stay])
    rows = _draw_fluids(patients, days, _FLUIDS_PER_DAY_MV, _FLUID_IDS_MV, rng)
    order_id = pl.int_range(pl.len()) + 1_000_000
    return rows.join(ids, on="stay", maintain_order="left").select(
        *(*_IDS, "ITEMID", "AMOUNT", "AMOUNTUOM", "STORETIME", "CGID"),
        STARTTIME="time",
        ENDTIME=pl.col("time") + pl.duration(minutes=59),
        ORDERCATEGORYNAME=pl.lit("02-Fluids (Crystalloids)"),
        RATE="AMOUNT",
        RATEUOM=pl.lit("mL/hour"),
        ORDERCATEGORYDESCRIPTION=pl.lit("Continuous IV"),
        TOTALAMOUNT="AMOUNT",
        **_describe_order(order_id),
        ORIGINALAMOUNT="AMOUNT",
        ORIGINALRATE="AMOUNT",
    )


def make_carevue_fluid_rows(
    patients: Patients, ids: pl.DataFrame, rng: np.random.Generator
) -> pl.DataFrame:
    """Rows of INPUTEVENTS_CV with fluids and feeds."""
    days = np.flatnonzero(~patients.is_metavision[patients.day_stay])
    rows = _draw_fluids(patients, days, _FLUIDS_PER_DAY_CV, _FLUID_IDS_CV, rng)
    order_id = pl.int_range(pl.len()) + 1_000_000
    return rows.join(ids, on="stay", maintain_order="left").select(
        *(*_IDS, "ITEMID", "AMOUNT", "AMOUNTUOM", "STORETIME", "CGID"),
        CHARTTIME="time",
        ORDERID=order_id,
        LINKORDERID=order_id,
        ORIGINALROUTE=pl.lit("Intravenous Infusion"),
    )


def _draw_fluids(
    patients: Patients,
    days: Ints,
    n_per_day: int,
    item_ids: tuple[int, ...],
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Fluids at full hours.

    Args:
        patients: the stays and their days.
        days: the days that are charted.
        n_per_day: rows per day.
        item_ids: ids of fluids.
        rng: random numbers.

    Returns:
        stay, time and the columns that both tables have.
    """
    minutes = np.sort(rng.integers(0, 24, (len(days), n_per_day)), axis=1) * 60
    time = (patients.day_start[days][:, None] + minutes.astype("timedelta64[m]")).ravel()
    amount = rng.integers(1, 41, len(time)) * 25.0
    rows = pl.DataFrame(
        {
            "stay": np.repeat(patients.day_stay[days], n_per_day),
            "time": time,
            "ITEMID": np.array(item_ids)[rng.integers(0, _N_FLUIDS, len(time))],
            "AMOUNT": amount,
        },
        schema_overrides={"stay": pl.Int64},
    )
    return rows.with_columns(
        AMOUNTUOM=pl.lit("ml"),
        STORETIME=pl.col("time") + pl.duration(minutes=25),
        CGID=pl.lit(16000),
    )
