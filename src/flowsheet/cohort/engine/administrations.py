"""Doses of anti-infectives that were given outside of charts of the ICU."""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.engine.admissions import is_outside_admission, match_admissions
from flowsheet.cohort.engine.antibiotics import GIVEN, list_anti_infectives
from flowsheet.cohort.engine.exclusions import OUTSIDE_ADMISSION, ExclusionLog
from flowsheet.cohort.engine.files import RawTable
from flowsheet.cohort.engine.orders import DrugNames
from flowsheet.cohort.engine.table_reader import stream_table


def read_administrations(
    table: RawTable | None, admissions: pl.DataFrame, orders: pl.DataFrame, log: ExclusionLog
) -> pl.DataFrame:
    """Read the doses of anti-infectives in some hospital admissions.

    Args:
        table: the table; None if the database has none.
        admissions: (subject_id, hadm_id, first, last).
        orders: their orders, which tell the route.
        log: receives the excluded and the rejected rows.

    Returns:
        Columns ``GIVEN``.
    """
    frames = [pl.DataFrame(schema=GIVEN)]
    if table is None:
        return frames[0]
    drug_names = DrugNames()
    routes = orders.select("order_id", "route").drop_nulls().unique("order_id", keep="first")
    for rows in stream_table(table, log):
        doses = rows.with_columns(drug_names.find(rows["drug"]).alias("drug"))
        doses = doses.filter(pl.col("drug").is_in(list_anti_infectives()))
        doses = doses.drop_nulls("time")
        doses = match_admissions(table, doses, admissions, pl.col("time"), log)
        is_outside = is_outside_admission(pl.col("time"))
        doses = log.reject(doses, is_outside, table.name, "time", OUTSIDE_ADMISSION)
        doses = doses.join(routes, on="order_id", how="left", maintain_order="left")
        given = doses.select(
            *("hadm_id", "drug", "time", "route"),
            end="time",
            known_at=pl.max_horizontal("time", "stored_at"),
            source=pl.lit(table.name),
        )
        frames.append(given.select(list(GIVEN)).cast(pl.Schema(GIVEN)))
    return pl.concat(frames)
