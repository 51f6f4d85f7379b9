"""The tables with drugs, cultures and ventilations of some stays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.cohort.sources.base import StayBatch
from flowsheet.raw_export.doses import make_doses
from flowsheet.raw_export.inputs import (
    make_carevue_fluid_rows,
    make_carevue_rows,
    make_metavision_fluid_rows,
    make_metavision_rows,
    make_rewritten_rows,
)
from flowsheet.raw_export.options import ExportOptions
from flowsheet.raw_export.patients import Patients, shift_episodes
from flowsheet.raw_export.prescriptions import (
    make_other_prescription_rows,
    make_prescription_rows,
)
from flowsheet.raw_export.procedures import make_culture_rows, make_ventilation_rows

_MINUTES_FROM_ENTRY = 20
"""From the entry of an order to its first dose."""


@dataclass(frozen=True)
class OrderTables:
    """Rows of six tables, and the treatments that a cohort should contain."""

    tables: dict[str, pl.DataFrame]
    """By table; columns that are not in a frame are empty."""
    truth: pl.DataFrame
    """(icustay_id, drug, start, end, amount, rate, table)."""
    n_rewritten: int
    """Rows of INPUTEVENTS_MV that are marked as rewritten."""


def make_order_tables(
    batch: StayBatch, patients: Patients, options: ExportOptions, rng: np.random.Generator
) -> OrderTables:
    """Write inputs, prescriptions, cultures and ventilations.

    Args:
        batch: the ward's stays.
        patients: the same stays as patients of the database.
        options: the share of rewritten infusions.
        rng: random numbers.
    """
    ids = _select_ids(patients)
    episodes = shift_episodes(batch, patients.stays)
    # a stream for each kind of rows: none depends on how many stays are charted in which system
    streams = iter(rng.spawn(6))
    doses = make_doses(batch, episodes, patients, ids, next(streams))
    metavision_doses = doses.filter("is_metavision").drop_nulls("metavision_itemid")
    metavision = make_metavision_rows(metavision_doses)
    carevue_doses = doses.filter(~pl.col("is_metavision")).drop_nulls("carevue_itemid")
    carevue = make_carevue_rows(carevue_doses)
    rewritten = make_rewritten_rows(metavision, options, next(streams))
    metavision_fluids = make_metavision_fluid_rows(patients, ids, next(streams))
    carevue_fluids = make_carevue_fluid_rows(patients, ids, next(streams))
    other_prescriptions = make_other_prescription_rows(patients, ids, next(streams))
    prescriptions = _number_orders(_concat(make_prescription_rows(doses), other_prescriptions))
    tables = {
        "INPUTEVENTS_MV": _concat(metavision, rewritten, metavision_fluids),
        "INPUTEVENTS_CV": _concat(carevue, carevue_fluids),
        "PRESCRIPTIONS": prescriptions,
        "PHARMACY": prescriptions,
        "MICROBIOLOGYEVENTS": make_culture_rows(episodes, patients, ids, next(streams)),
        "PROCEDUREEVENTS_MV": make_ventilation_rows(episodes, ids),
    }
    return OrderTables(tables, _collect_truth(metavision, carevue), rewritten.height)


def _concat(*frames: pl.DataFrame) -> pl.DataFrame:
    return pl.concat(frames, how="diagonal_relaxed")


def _select_ids(patients: Patients) -> pl.DataFrame:
    """The database's ids by the position of the stay, with chart system, discharge and weight."""
    return patients.stays.select(
        stay=pl.int_range(pl.len()).cast(pl.Int64),
        SUBJECT_ID="raw_subject",
        HADM_ID="hadm_id",
        ICUSTAY_ID="icustay_id",
        is_metavision=pl.col("dbsource") == "metavision",
        outtime=pl.col("outtime"),
        weight=pl.col("weight_kg"),
    )


def _collect_truth(metavision: pl.DataFrame, carevue: pl.DataFrame) -> pl.DataFrame:
    columns = {"icustay_id": "ICUSTAY_ID", "amount": "AMOUNT", "rate": "RATE"}
    infusions = metavision.select(
        "drug", **columns, start="STARTTIME", end="ENDTIME", table=pl.lit("INPUTEVENTS_MV")
    )
    charted = carevue.select(
        "drug", **columns, start="CHARTTIME", end="CHARTTIME", table=pl.lit("INPUTEVENTS_CV")
    )
    names = ["icustay_id", "drug", "start", "end", "amount", "rate", "table"]
    return pl.concat([infusions.select(names), charted.select(names)])


def _number_orders(prescriptions: pl.DataFrame) -> pl.DataFrame:
    """Add PHARMACY_ID, and ENTERTIME: orders are entered before their first dose."""
    number = pl.int_range(pl.len()) + pl.col("ICUSTAY_ID") * 1000
    entered = pl.col("STARTTIME") - pl.duration(minutes=_MINUTES_FROM_ENTRY)
    return prescriptions.with_columns(PHARMACY_ID=number, ENTERTIME=entered)
