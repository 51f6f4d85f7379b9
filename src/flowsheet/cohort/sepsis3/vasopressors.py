"""How long vasopressors ran: the score counts those that are given for at least an hour."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.infusions import Infusions
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.time_grid import HOUR, from_hours, microseconds
from flowsheet.typing import Bools

DAY = 24 * HOUR


def ran_long_enough(grid: HourlyGrid, infusions: pl.DataFrame, options: Sepsis3Options) -> Bools:
    """The hours at which one drug ran for ``vasopressor_min_hours``, in sum, shape (N,).

    The time counts from 24 h before the hour until that many hours after it, as far as the score
    is computed later still: so a drug counts from its start.

    Args:
        grid: The stays.
        infusions: (stay_id, time, until, known_at) of the drug; only those in the record count.
        options: The definition's parameters.
    """
    shortest = from_hours(options.vasopressor_min_hours)
    if not shortest:
        return np.ones(grid.rows, bool)
    delay = from_hours(options.charting_delay_hours)
    rows = infusions.filter(grid.stay_positions(infusions) >= 0)
    stay = grid.stay_positions(rows)
    start, end, known = (
        microseconds(rows[name]) - grid.admitted[stay] for name in ("time", "until", "known_at")
    )
    infusions_at = Infusions(stay, start, end, known - delay, np.ones(len(stay)))
    ran = np.rint(infusions_at.given(grid, lag=-min(shortest, delay)))
    ran -= np.rint(infusions_at.given(grid, lag=DAY))
    return np.asarray(ran >= shortest)
