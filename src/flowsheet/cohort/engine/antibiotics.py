"""Antibiotics of whole hospital admissions, ordered or charted as given, for the Sepsis-3 label."""

from __future__ import annotations

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import TIME
from flowsheet.cohort.sepsis3 import ANTIBIOTICS
from flowsheet.cohort.sepsis3.frames import ORDERED

GROUPS = catalogue.ANTI_INFECTIVE_GROUPS
"""Groups of drugs that the label may use; its options choose among them."""


def select_ordered_antibiotics(orders: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Ordered anti-infectives of the stays' admissions, for each stay; columns ``ANTIBIOTICS``."""
    anti_infectives = orders.filter(pl.col("drug").is_in(list_anti_infectives()))
    rows = stays.select("stay_id", "hadm_id").join(anti_infectives, on="hadm_id")
    return rows.select(
        *("stay_id", "drug", pl.col("start").alias("time"), "end", "known_at", "route"),
        source=pl.lit(ORDERED),
        date_only="date_only",
    ).cast(pl.Schema(ANTIBIOTICS))


GIVEN: dict[str, pl.DataType] = {
    "hadm_id": pl.Int64(),
    "drug": pl.String(),
    "time": TIME,
    "end": TIME,
    "known_at": TIME,
    "route": pl.String(),
    "source": pl.String(),
}
"""Columns of the anti-infectives that were charted as given in an admission, in any unit."""


def select_given_antibiotics(given: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Anti-infectives that were charted as given anywhere in the admission, for each stay.

    Args:
        given: columns ``GIVEN``, of all admissions: doses in a stay that is not selected, or that
            belongs to another batch, count as well.
        stays: stay_id and hadm_id.

    Returns:
        Columns ``ANTIBIOTICS``.
    """
    rows = stays.select("stay_id", "hadm_id").join(given, on="hadm_id")
    return rows.select(
        *("stay_id", "drug", "time", "end", "known_at", "route", "source"),
        date_only=False,
    ).cast(pl.Schema(ANTIBIOTICS))


def list_anti_infectives() -> list[str]:
    """The catalogue's drugs of ``GROUPS``."""
    return [name for name, drug in catalogue.drugs().items() if drug.group in GROUPS]
