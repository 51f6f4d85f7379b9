"""Cultures: when they were taken, not what they showed."""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.engine.admissions import ONE_DAY, is_outside_admission, match_admissions
from flowsheet.cohort.engine.exclusions import OUTSIDE_ADMISSION, ExclusionLog
from flowsheet.cohort.engine.files import RawTable
from flowsheet.cohort.engine.table_reader import stream_table
from flowsheet.cohort.schema import TIME
from flowsheet.cohort.sepsis3 import CULTURES

_CULTURES_BY_ADMISSION = {
    "hadm_id": pl.Int64(),
    "time": TIME,
    "known_at": TIME,
    "specimen": pl.String(),
    "date_only": pl.Boolean(),
}


def read_cultures(
    table: RawTable | None, admissions: pl.DataFrame, log: ExclusionLog
) -> pl.DataFrame:
    """Read the cultures of some hospital admissions: one row per specimen and time, sorted.

    Those that are dated outside of their admission are rejected.

    Args:
        table: the table; None if the database has none.
        admissions: (subject_id, hadm_id, first, last).
        log: receives the excluded and the rejected rows.
    """
    if table is None:
        return pl.DataFrame(schema=_CULTURES_BY_ADMISSION)
    frames = [pl.DataFrame(schema=_CULTURES_BY_ADMISSION)]
    for rows in stream_table(table, log):
        time = pl.coalesce("time", "day")
        cultures = match_admissions(table, rows, admissions, time, log)
        for column in ("day", "time"):
            is_outside = is_outside_admission(pl.col(column))
            cultures = log.reject(cultures, is_outside, table.name, column, OUTSIDE_ADMISSION)
        has_date_only = pl.col("time").is_null()
        cultures = cultures.select(
            "hadm_id",
            time=time,
            known_at=pl.when(has_date_only).then(time + ONE_DAY).otherwise(time),
            specimen="specimen",
            date_only=has_date_only,
        )
        has_no_time = pl.col("time").is_null()
        frames.append(log.exclude(cultures, has_no_time, f"{table.name}: without a date"))
    return pl.concat(frames).unique().sort(list(_CULTURES_BY_ADMISSION))


def select_cultures(cultures: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """The cultures of the stays' admissions, for each stay; columns ``CULTURES``, sorted."""
    rows = stays.select("stay_id", "hadm_id").join(cultures, on="hadm_id")
    return rows.select(list(CULTURES)).cast(pl.Schema(CULTURES)).sort(list(CULTURES))
