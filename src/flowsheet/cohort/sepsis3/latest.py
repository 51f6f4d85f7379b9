"""The last charted value of a variable at given moments, as far as it was in the record."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid, forward_fill
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.time_grid import from_hours, microseconds
from flowsheet.typing import Floats, Ints


def select_variable(grid: HourlyGrid, events: pl.DataFrame, *variables: str) -> pl.DataFrame:
    """The rows of these variables and of the grid's stays, sorted."""
    rows = events.filter(pl.col("variable").is_in(variables))
    rows = rows.filter(grid.stay_positions(rows) >= 0)
    return rows.sort("stay_id", "time", "known_at", "value", "variable")


def latest_before(
    grid: HourlyGrid,
    facts: pl.DataFrame,
    charted: pl.DataFrame,
    within_hours: float,
    options: Sepsis3Options,
) -> Floats:
    """For each fact the last value charted at its time or before; NaN if there is none.

    Only values that are in the record when the fact first counts are used: a value that arrives
    later would change the past.

    Args:
        grid: The stays.
        facts: Rows with stay_id, time and known_at, e.g. the blood gases.
        charted: The values of the other variable, sorted.
        within_hours: The longest time from the value to the fact.
        options: The definition's parameters.

    Returns:
        Shape (facts,).
    """
    stay = grid.stay_positions(facts)
    time = microseconds(facts["time"])
    intervals = (stay, time - from_hours(within_hours), time)
    moments = (grid.stay_positions(charted), microseconds(charted["time"]))
    fact, value = grid.pairs(intervals, moments)
    counts_from = np.maximum(
        microseconds(facts["known_at"]), time + from_hours(options.charting_delay_hours)
    )
    in_record = microseconds(charted["known_at"])[value] <= counts_from[fact]
    latest = np.full(len(stay), -1)
    np.maximum.at(latest, fact[in_record], value[in_record])
    values_or_nan = np.append(charted["value"].to_numpy(), np.nan)  # NaN at position -1
    return np.asarray(values_or_nan[latest], dtype=np.float64)


def last_by_hour(grid: HourlyGrid, charted: pl.DataFrame, options: Sepsis3Options) -> Floats:
    """The last of the sorted values that is in the record at each hour; NaN if there is none.

    Shape (N,).
    """
    values = np.append(charted["value"].to_numpy(), np.nan)
    return np.asarray(values[find_last(grid, charted, options)], dtype=np.float64)


def find_last(grid: HourlyGrid, charted: pl.DataFrame, options: Sepsis3Options) -> Ints:
    """The position of the last of the sorted rows that is in the record at each hour; -1 if none.

    Shape (N,).
    """
    delay = from_hours(options.charting_delay_hours)
    time, known_at = microseconds(charted["time"]), microseconds(charted["known_at"])
    stay = grid.stay_positions(charted)
    row = grid.first_row(stay, np.maximum(time, known_at - delay))
    is_inside = row < grid.offsets[stay + 1]
    last = np.full(grid.rows, -1)
    np.maximum.at(last, row[is_inside], np.flatnonzero(is_inside))
    position, is_known = forward_fill(last, last >= 0, grid.offsets)
    return np.where(is_known, position, -1)
