"""Inputs of the Sepsis-3 label beside the contract's tables: antibiotics and cultures."""

from __future__ import annotations

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.sepsis3 import ANTIBIOTICS, CULTURES, Sepsis3Options

AFTER_HOURS = 72
"""How long after the stay rows are included; no default window of the label is longer."""


def select_antibiotics(
    doses: pl.DataFrame, orders: pl.DataFrame, stays: pl.DataFrame, options: Sepsis3Options
) -> pl.DataFrame:
    """The antibiotics of the declared groups for each stay, as ``ANTIBIOTICS``.

    Args:
        doses: charted doses, with source.
        orders: orders and doses that wards gave, with route and source.
        stays: the contract's table.
        options: the groups.
    """
    drugs = [name for name, drug in catalogue.drugs().items() if drug.group in options.groups]
    charted = doses.with_columns(route=pl.lit(None, pl.String)).select(orders.columns)
    both = pl.concat([charted, orders])
    rows = _join_admissions(both.filter(pl.col("drug").is_in(drugs)), stays)
    rows = rows.with_columns(date_only=pl.lit(value=False))
    return rows.select(list(ANTIBIOTICS)).cast(pl.Schema(ANTIBIOTICS))


def select_cultures(rows: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """The rows of kind ``culture`` for each stay, as ``CULTURES``.

    The specimen is the name in the mapping, else the part of the code after its first ``//``.
    """
    second = pl.col("code").str.split_exact("//", 1).struct.field("field_1")
    specimen = pl.coalesce("name", second)
    cultures = _join_admissions(rows.filter(kind="culture"), stays)
    cultures = cultures.with_columns(specimen=specimen, date_only=pl.lit(value=False))
    return cultures.select(list(CULTURES)).cast(pl.Schema(CULTURES))


def _join_admissions(rows: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """The rows of each stay, from admission to the hospital until ``AFTER_HOURS`` after the stay.

    A row is repeated for each stay of its subject that it belongs to.
    """
    start = pl.min_horizontal("hospital_admitted_at", "admitted_at")
    end = pl.col("discharged_at") + pl.duration(hours=AFTER_HOURS)
    limits = stays.select("stay_id", "subject_id", _start=start, _end=end)
    return rows.join(limits, on="subject_id").filter(pl.col("time").is_between("_start", "_end"))
