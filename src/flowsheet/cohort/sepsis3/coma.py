"""The Glasgow coma score: the charted total, or the sum of its three parts."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.latest import latest_before, select_variable
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.typing import Floats

PARTS = {"egcs": 4.0, "mgcs": 6.0, "vgcs": 5.0}
"""The parts of the score, and their normal values."""


def collect_coma_scores(
    grid: HourlyGrid, events: pl.DataFrame, options: Sepsis3Options
) -> pl.DataFrame:
    """(stay_id, time, known_at, value) of the totals and of the sums of the last three parts.

    A part is added to the last of the others within ``gcs_carry_hours``; ``gcs_missing_parts`` says
    what is done without one. At the time of a charted total the parts are not summed.
    """
    total = select_variable(grid, events, "gcs")
    charted = select_variable(grid, events, *PARTS)
    value = np.sum([_last_part(grid, charted, part, options) for part in PARTS], axis=0)
    has_total = ~np.isnan(latest_before(grid, charted, total, 0.0, options))
    summed = charted.with_columns(value=pl.Series(value)).filter(~np.isnan(value) & ~has_total)
    columns = ["stay_id", "time", "known_at", "value"]
    return pl.concat([total.select(columns), summed.select(columns)])


def _last_part(
    grid: HourlyGrid, charted: pl.DataFrame, part: str, options: Sepsis3Options
) -> Floats:
    """The last value of a part at each charted row; NaN if it is unknown.

    Args:
        grid: The stays.
        charted: All parts, sorted.
        part: One of ``PARTS``.
        options: The definition's parameters.
    """
    values = charted.filter(variable=part)
    last = latest_before(grid, charted, values, options.gcs_carry_hours, options)
    if options.gcs_missing_parts == "normal":
        return np.where(np.isnan(last), PARTS[part], last)
    return last
