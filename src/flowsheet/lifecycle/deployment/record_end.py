"""Until when the outcomes of an extract are known."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import EPOCH
from flowsheet.config import TaskConfig
from flowsheet.errors import UsageError


def find_record_end(extract: Extract, until: datetime | None) -> datetime | None:
    """The time until which outcomes are known: ``until``, or else the end of the last stay.

    None where all stays begin at the same time because the source has no calendar times: nothing
    tells then which patients were present last.

    Raises:
        UsageError: ``until`` has a time zone, which the times of records have not.
    """
    if until is None:
        admitted, end = pl.col("admitted_at"), pl.col("discharged_at")
        stays = extract.scan("stays").select(first=admitted.max(), end=end.max()).collect()
        first, last = stays.row(0)
        return None if first in (None, EPOCH) else last
    if until.tzinfo is not None:
        raise UsageError(
            f"the time {until.isoformat()} has a time zone, the times of records have none",
            where="until",
            todo="name the time of the export by the hospital's clock, as 2031-05-01T06:00:00",
        )
    return until


def is_stay_open(until: datetime) -> pl.Expr:
    """Stays whose patients were present when the record ended: how they went on is not known."""
    is_dead = (pl.col("died_at") <= until).fill_null(value=False)
    return (pl.col("discharged_at") >= until) & ~is_dead


def is_in_hospital(stays: pl.DataFrame) -> pl.Expr:
    """Stays whose patients may still die in the hospital, where that is recorded."""
    is_recorded = stays["hospital_death"].is_not_null().any()
    is_unknown = pl.col("hospital_death").is_null() & pl.col("died_at").is_null()
    return is_unknown & is_recorded


def find_open_stays(extract: Extract, task: TaskConfig) -> list[int]:
    """The ids of the stays whose outcome was not known when the extract's record ended."""
    stays = extract.scan("stays").collect()
    until = find_record_end(extract, None)
    is_open = pl.lit(value=False) if until is None else is_stay_open(until)
    if task.horizon is None:
        is_open |= is_in_hospital(stays)
    return stays.filter(is_open)["stay_id"].to_list()
