"""The stay that each row of a MEDS data set belongs to."""

from __future__ import annotations

from datetime import timedelta

import polars as pl


def assign_stays(
    rows: pl.DataFrame, stays: pl.DataFrame, before_hours: float, after_hours: float
) -> pl.DataFrame:
    """Add ``stay_id`` to the rows; null for rows outside of all stays.

    A row belongs to the stay that contains its time; otherwise to the stay that begins within
    ``before_hours`` after it; otherwise to the stay that ended within ``after_hours`` before it.

    Args:
        rows: Rows with ``subject_id`` and ``time``.
        stays: The contract's table.
        before_hours: How long before admission a row may be.
        after_hours: How long after discharge a row may be.
    """
    stays = stays.select("subject_id", "stay_id", "admitted_at", "discharged_at")
    stays = stays.sort("admitted_at", "stay_id")
    rows = rows.sort("time")
    latest_admission = rows.join_asof(
        stays,
        left_on="time",
        right_on="admitted_at",
        by="subject_id",
        check_sortedness=False,
    )
    next_stay = rows.join_asof(
        stays.select("subject_id", "admitted_at", next_stay_id="stay_id"),
        left_on="time",
        right_on="admitted_at",
        by="subject_id",
        strategy="forward",
        tolerance=timedelta(hours=before_hours),
        check_sortedness=False,
    )["next_stay_id"]
    end_of_reach = pl.col("discharged_at") + timedelta(hours=after_hours)
    is_in_stay = pl.col("time") <= pl.col("discharged_at")
    is_soon_after = pl.col("time") <= end_of_reach
    stay_id = (
        pl.when(is_in_stay)
        .then("stay_id")
        .otherwise(pl.coalesce(next_stay, pl.when(is_soon_after).then("stay_id")))
    )
    return latest_admission.with_columns(stay_id=stay_id).drop("admitted_at", "discharged_at")
