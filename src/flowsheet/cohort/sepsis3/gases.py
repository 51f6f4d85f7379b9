"""The respiratory component: arterial blood gases with the oxygen and ventilation at their time."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.time_grid import from_hours, microseconds
from flowsheet.typing import Floats


def grade_blood_gases(
    grid: HourlyGrid, events: pl.DataFrame, options: Sepsis3Options
) -> pl.DataFrame:
    """(stay_id, time, known_at, score) of every blood gas whose inspired oxygen is known.

    PaO2/FiO2 below 400, 300, 200 and 100 mmHg scores 1 to 4; 3 and 4 require ventilation, without
    it the worst score is 2.
    """
    gases = _select_variable(grid, events, "po2")
    fio2 = _latest_before(
        grid, gases, _select_variable(grid, events, "fio2"), options.fio2_hours, options
    )
    ventilation = _latest_before(
        grid, gases, _select_variable(grid, events, "vent"), options.ventilation_hours, options
    )
    ratio = np.round(100 * gases["value"].to_numpy() / fio2, 6)
    is_ventilated = ventilation >= 0.5
    score = np.sum(
        [
            ratio < 400,
            ratio < 300,
            (ratio < 200) & is_ventilated,
            (ratio < 100) & is_ventilated,
        ],
        axis=0,
    )
    graded = gases.select("stay_id", "time", "known_at", score=pl.Series(score, dtype=pl.Int8))
    return graded.filter(~np.isnan(ratio))


def _select_variable(grid: HourlyGrid, events: pl.DataFrame, variable: str) -> pl.DataFrame:
    rows = events.filter(variable=variable)
    rows = rows.filter(grid.stay_positions(rows) >= 0)
    return rows.sort("stay_id", "time", "known_at", "value")


def _latest_before(
    grid: HourlyGrid,
    gases: pl.DataFrame,
    charted: pl.DataFrame,
    within_hours: float,
    options: Sepsis3Options,
) -> Floats:
    """For each blood gas the last value charted at its time or before; NaN if there is none.

    Only values that are in the record when the blood gas first counts are used: a value that
    arrives later would change the past.

    Args:
        grid: The stays.
        gases: The blood gases, sorted.
        charted: The values of the other variable, sorted.
        within_hours: The longest time from the value to the blood gas.
        options: The definition's parameters.

    Returns:
        Shape (blood gases,).
    """
    stay = grid.stay_positions(gases)
    time = microseconds(gases["time"])
    intervals = (stay, time - from_hours(within_hours), time)
    moments = (grid.stay_positions(charted), microseconds(charted["time"]))
    gas, value = grid.pairs(intervals, moments)
    counts_from = np.maximum(
        microseconds(gases["known_at"]), time + from_hours(options.charting_delay_hours)
    )
    in_record = microseconds(charted["known_at"])[value] <= counts_from[gas]
    latest = np.full(len(stay), -1)
    np.maximum.at(latest, gas[in_record], value[in_record])
    values_or_nan = np.append(charted["value"].to_numpy(), np.nan)  # NaN at position -1
    return np.asarray(values_or_nan[latest], dtype=np.float64)
