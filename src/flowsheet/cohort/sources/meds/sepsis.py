"""What the Sepsis-3 label reads out of a MEDS data set beside the contract's tables: antibiotics and cultures."""

from __future__ import annotations

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.sepsis3 import ANTIBIOTICS, CULTURES, Sepsis3Options

AFTER_HOURS = 72
"""How long after the stay facts are offered to the label: no window of it reaches further by default."""


def antibiotics(given: pl.DataFrame, stays: pl.DataFrame, options: Sepsis3Options) -> pl.DataFrame:
    """Doses (see ``_meds_facts.doses``) of the groups that count, for each stay of the admission; ``ANTIBIOTICS``."""
    counting = [name for name, drug in catalogue.drugs().items() if drug.group in options.groups]
    mine = _of_admission(given.filter(pl.col("drug").is_in(counting)), stays)
    told = mine.with_columns(
        route=pl.lit(None), source=pl.lit("meds"), date_only=pl.lit(value=False)
    )
    return told.select(list(ANTIBIOTICS)).cast(pl.Schema(ANTIBIOTICS))


def cultures(rows: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Rows of kind ``culture``, the specimen being what the code says after its first ``//``; ``CULTURES``."""
    specimen = pl.col("code").str.split_exact("//", 1).struct.field("field_1")
    mine = _of_admission(rows.filter(kind="culture"), stays)
    told = mine.with_columns(specimen=specimen, date_only=pl.lit(value=False))
    return told.select(list(CULTURES)).cast(pl.Schema(CULTURES))


def _of_admission(rows: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """The rows from admission to hospital until some days after the stay, with ``stay_id``, for each such stay."""
    begin = pl.min_horizontal("hospital_admitted_at", "admitted_at")
    end = pl.col("discharged_at") + pl.duration(hours=AFTER_HOURS)
    both = rows.join(stays.select("stay_id", "subject_id", _begin=begin, _end=end), on="subject_id")
    return both.filter(pl.col("time").is_between("_begin", "_end"))
