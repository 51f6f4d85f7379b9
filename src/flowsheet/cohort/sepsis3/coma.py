"""The Glasgow coma score: the charted total, or the sum of its three parts."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.latest import latest_before, select_variable
from flowsheet.cohort.sepsis3.options import Sepsis3Options

PARTS = ("egcs", "mgcs", "vgcs")


def collect_coma_scores(
    grid: HourlyGrid, events: pl.DataFrame, options: Sepsis3Options
) -> pl.DataFrame:
    """(stay_id, time, known_at, value) of the totals and of the sums of the last three parts.

    A part is added to the last of the others within ``gcs_carry_hours``. At the time of a charted
    total the parts are not summed.
    """
    total = select_variable(grid, events, "gcs")
    charted = select_variable(grid, events, *PARTS)
    value = np.sum(
        [
            latest_before(
                grid, charted, charted.filter(variable=part), options.gcs_carry_hours, options
            )
            for part in PARTS
        ],
        axis=0,
    )
    has_total = ~np.isnan(latest_before(grid, charted, total, 0.0, options))
    summed = charted.with_columns(value=pl.Series(value)).filter(~np.isnan(value) & ~has_total)
    columns = ["stay_id", "time", "known_at", "value"]
    return pl.concat([total.select(columns), summed.select(columns)])
