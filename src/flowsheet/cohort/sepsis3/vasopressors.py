"""How long vasopressors ran: the score counts those that are given for at least an hour."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.time_grid import HOUR, from_hours, microseconds
from flowsheet.typing import Bools, Ints

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
    known_infusions = (stay, start, end, known - delay)
    ran = _running_time(grid, known_infusions, lag=-min(shortest, delay))
    ran -= _running_time(grid, known_infusions, lag=DAY)
    return np.asarray(ran >= shortest)


def _running_time(grid: HourlyGrid, infusions: tuple[Ints, Ints, Ints, Ints], lag: int) -> Ints:
    """Microseconds that infusions ran before each hour less ``lag``, shape (N,).

    Args:
        grid: The stays.
        infusions: (stay, start, end, counts_from), in microseconds since admission; only the
            infusions count that are in the record at the hour itself.
        lag: Microseconds.
    """
    stay, start, end, counts_from = infusions
    begin = np.maximum(start + lag, counts_from) + grid.admitted[stay]
    stop = np.maximum(end + lag, counts_from) + grid.admitted[stay]
    never = np.full(len(stay), np.iinfo(np.int64).max // 4)
    running = grid.total(stay, begin, stop, np.ones(len(stay)))
    started = grid.total(stay, begin, stop, start.astype(float))
    finished = grid.total(stay, stop, never, (end - start).astype(float))
    moment = grid.hour * HOUR - lag
    return np.rint(running * moment - started + finished).astype(np.int64)
