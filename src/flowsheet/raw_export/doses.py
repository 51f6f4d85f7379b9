"""Doses of drugs: the ward's own, and courses of antibiotics after the onset of sepsis."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort.sources.base import StayBatch
from flowsheet.raw_export.patients import Patients

DRUG_NAMES = {
    "norepinephrine": "Norepinephrine",
    "propofol": "Propofol",
    "furosemide": "Furosemide",
    "insulin": "Insulin",
    "vancomycin": "Vancomycin HCl",
    "piperacillin_tazobactam": "Piperacillin-Tazobactam Na",
    "ceftriaxone": "CeftriaXONE",
    "hydrocortisone": "Hydrocortisone Na Succ.",
}
"""The catalogue's drugs as PRESCRIPTIONS names them."""

ITEM_IDS: dict[str, tuple[int, int | None]] = {
    "norepinephrine": (221906, 30120),
    "propofol": (222168, 30131),
    "furosemide": (221794, 30123),
    "insulin": (223258, 30045),
    "vancomycin": (225798, None),
    "piperacillin_tazobactam": (225893, None),
    "ceftriaxone": (225855, None),
}
"""Item ids of MetaVision and CareVue. Hydrocortisone, and CareVue's antibiotics, are in
PRESCRIPTIONS only."""

ANTIBIOTICS = {
    "vancomycin": (12, 1000.0),
    "piperacillin_tazobactam": (8, 4500.0),
    "ceftriaxone": (24, 2000.0),
}
"""Hours between the doses of a course, and the dose in mg."""


def make_doses(
    batch: StayBatch,
    episodes: pl.DataFrame,
    patients: Patients,
    ids: pl.DataFrame,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Doses of all drugs that are charted or prescribed.

    Args:
        batch: the ward's treatments.
        episodes: episodes of sepsis with the position of their ``stay``.
        patients: the stays and their days.
        ids: the database's ids by ``stay``.
        rng: random numbers.

    Returns:
        stay, drug, start, end, amount, rate per hour (null: a single dose), is_course, the columns
        of ``ids``, and metavision_itemid and carevue_itemid (null: not charted there).
    """
    doses = pl.concat(
        [_collect_ward_doses(batch, patients), _draw_antibiotic_doses(episodes, patients, rng)]
    )
    item_ids = pl.DataFrame(
        [(drug, *ids_of_drug) for drug, ids_of_drug in ITEM_IDS.items()],
        schema={"drug": pl.String, "metavision_itemid": pl.Int64, "carevue_itemid": pl.Int64},
        orient="row",
    )
    doses = doses.join(ids, on="stay", maintain_order="left")
    return doses.join(item_ids, on="drug", how="left", maintain_order="left")


def _collect_ward_doses(batch: StayBatch, patients: Patients) -> pl.DataFrame:
    positions = patients.stays.select(
        "stay_id", "admitted_at", "charting_start", stay=pl.int_range(pl.len()).cast(pl.Int64)
    )
    shift = pl.col("charting_start") - pl.col("admitted_at")
    is_infusion = pl.col("end") > pl.col("start")
    hours = (pl.col("end") - pl.col("start")).dt.total_minutes() / 60
    return batch.treatments.join(positions, on="stay_id", maintain_order="left").select(
        "stay",
        "drug",
        start=pl.col("start") + shift,
        end=pl.col("end") + shift,
        amount=pl.when(is_infusion).then(pl.col("dose") * hours).otherwise("dose"),
        rate=pl.when(is_infusion).then("dose"),
        is_course=pl.lit(value=False),
    )


def _draw_antibiotic_doses(
    episodes: pl.DataFrame, patients: Patients, rng: np.random.Generator
) -> pl.DataFrame:
    """Doses of one antibiotic per episode, from soon after its onset to days after its end."""
    n = episodes.height
    delay = pl.Series(rng.integers(5, 300, n).astype("timedelta64[m]").astype("timedelta64[us]"))
    names = np.array(list(ANTIBIOTICS))
    days = (pl.col("end_hour") - pl.col("start_hour")) // 24 + 4
    courses = episodes.select(
        pl.col("stay").cast(pl.Int64),
        start=(pl.col("onset") + delay).dt.truncate("1m"),
        last=pl.col("onset") + pl.duration(days=days),
        drug=pl.Series(names[rng.integers(0, len(names), n)]),
    )
    schedules = pl.DataFrame(
        [(drug, *schedule) for drug, schedule in ANTIBIOTICS.items()],
        schema=["drug", "interval_hours", "amount"],
        orient="row",
    )
    discharges = patients.stays.select("outtime", stay=pl.int_range(pl.len()).cast(pl.Int64))
    courses = courses.join(schedules, on="drug", maintain_order="left")
    courses = courses.join(discharges, on="stay", maintain_order="left")
    courses = courses.with_columns(last=pl.min_horizontal("last", "outtime"))
    courses = courses.filter(pl.col("start") < pl.col("last"))
    minutes = (pl.col("last") - pl.col("start")).dt.total_minutes()
    n_doses = minutes // (60 * pl.col("interval_hours")) + 1
    doses = courses.with_columns(number=pl.int_ranges(0, n_doses))
    doses = doses.explode("number", empty_as_null=False)
    start = pl.col("start") + pl.duration(hours=pl.col("number") * pl.col("interval_hours"))
    return doses.select(
        "stay",
        "drug",
        start=start,
        end=start,
        amount="amount",
        rate=pl.lit(None, pl.Float64),
        is_course=pl.lit(value=True),
    )
