"""The respiratory component: each arterial blood gas with the oxygen and the ventilation of its moment."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.time_grid import from_hours, microseconds
from flowsheet.typing import Floats


def graded_gases(grid: HourlyGrid, events: pl.DataFrame, options: Sepsis3Options) -> pl.DataFrame:
    """(stay_id, time, known_at, score) of every blood gas whose inspired oxygen is known.

    PaO2/FiO2 below 400, 300, 200 and 100 mmHg score 1 to 4; 3 and 4 want ventilation, without it 2
    is the worst.
    """
    gases = _charted(grid, events, "po2")
    oxygen = _latest(grid, gases, _charted(grid, events, "fio2"), options.fio2_hours, options)
    support = _latest(
        grid, gases, _charted(grid, events, "vent"), options.ventilation_hours, options
    )
    ratio = np.round(100 * gases["value"].to_numpy() / oxygen, 6)
    ventilated = support >= 0.5
    score = np.sum(
        [ratio < 400, ratio < 300, (ratio < 200) & ventilated, (ratio < 100) & ventilated], axis=0
    )
    graded = gases.select("stay_id", "time", "known_at", score=pl.Series(score, dtype=pl.Int8))
    return graded.filter(~np.isnan(ratio))


def _charted(grid: HourlyGrid, events: pl.DataFrame, variable: str) -> pl.DataFrame:
    rows = events.filter(variable=variable)
    return rows.filter(grid.stay_positions(rows) >= 0).sort("stay_id", "time", "known_at", "value")


def _latest(
    grid: HourlyGrid,
    gases: pl.DataFrame,
    charted: pl.DataFrame,
    within: float,
    options: Sepsis3Options,
) -> Floats:
    """For each blood gas the last value charted at it or within that many hours before it; NaN:
    none.

    Only what was in the record when the blood gas first counts: a value that comes later would
    change the past.
    """
    stay, time = grid.stay_positions(gases), microseconds(gases["time"])
    moments = grid.stay_positions(charted), microseconds(charted["time"])
    of, at = grid.pairs((stay, time - from_hours(within), time), moments)
    counts_from = np.maximum(
        microseconds(gases["known_at"]), time + from_hours(options.charting_delay_hours)
    )
    told = microseconds(charted["known_at"])[at] <= counts_from[of]
    best = np.full(len(stay), -1)
    np.maximum.at(best, of[told], at[told])
    return np.asarray(np.append(charted["value"].to_numpy(), np.nan)[best], dtype=np.float64)
