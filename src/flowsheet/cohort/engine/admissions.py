"""Match rows without a stay to hospital admissions."""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.engine.exclusions import ExclusionLog
from flowsheet.cohort.engine.files import RawTable

ADMISSION_TOLERANCE_DAYS = 7
"""A convention of ours: orders of a planned admission, and those for the time after it, may be
dated some days from it. In MIMIC-III's demo 4 of 10,398 orders and none of 2,003 cultures are more
than a week away."""

_BEFORE_ADMISSION = pl.duration(hours=72)
"""A row that names no admission belongs to one that begins within this time: a culture that was
taken before it may belong to an infection of it (``culture_first_hours`` of Sepsis-3)."""

ONE_DAY = pl.duration(days=1)


def is_outside_admission(time: pl.Expr) -> pl.Expr:
    """Whether a time is far from the hospital admission ``first`` to ``last`` of its row."""
    tolerance = pl.duration(days=ADMISSION_TOLERANCE_DAYS)
    return ~time.is_between(pl.col("first") - tolerance, pl.col("last") + tolerance)


def match_admissions(
    table: RawTable, rows: pl.DataFrame, admissions: pl.DataFrame, time: pl.Expr, log: ExclusionLog
) -> pl.DataFrame:
    """The rows of some hospital admissions, with ``first`` and ``last`` of the admission.

    A row that names no admission belongs to those of its patient at its time.

    Args:
        table: the rows' table.
        rows: the rows, with ``hadm_id``; it may be null where they have ``subject_id``.
        admissions: (subject_id, hadm_id, first, last).
        time: the time of a row.
        log: receives the rows that name no admission and are in none.
    """
    named = rows.join(admissions.drop("subject_id"), on="hadm_id", maintain_order="left")
    if "subject_id" not in table.spec.columns:
        return named
    unnamed = rows.filter(pl.col("hadm_id").is_null()).drop("hadm_id")
    pairs = unnamed.join(admissions, on="subject_id", maintain_order="left")
    is_inside = time.is_between(pl.col("first") - _BEFORE_ADMISSION, pl.col("last"))
    matched = pairs.filter(is_inside)
    n_outside = unnamed.height - matched["row"].n_unique()
    if n_outside:
        column = table.spec.names["hadm_id"].upper()
        log.counts[f"{table.name}: without {column}, and no admission at that time"] += n_outside
    return pl.concat([named, matched.select(named.columns)])
