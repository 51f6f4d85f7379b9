"""The renal component by urine output.

Each reading is judged with the readings of the 24 h before it, as far as they are in the record
when the reading first counts; an hour has the worst score of the readings of its last 24 hours. A
reading covers the time since the one before it, the first one the time since admission. Irrigant
that went into the bladder is subtracted over the whole time that the readings cover, as it may be
charted at other times than the output.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.time_grid import HOUR, from_hours, microseconds
from flowsheet.typing import Bools, Floats, Ints

DAY = 24 * HOUR
_SIGNS = {"urine": 1.0, "bladder_irrigant": -1.0}


@dataclass(frozen=True)
class UrineOutput:
    """The urine by which each hour is judged, shape (N,) each."""

    volume: Floats
    """mL, less the irrigant."""
    covered: Ints
    """Microseconds that the readings cover."""
    is_new: Bools
    """Whether the last reading is later than that of the hour before."""


def grade_urine(
    grid: HourlyGrid, events: pl.DataFrame, options: Sepsis3Options
) -> tuple[Ints, Bools]:
    """The renal score by urine output, and whether it is known; shape (N,) each.

    The amount is scaled to a day. If it covers more than the longest time, the day's amount is not
    known, but is at most the whole: less than 500 or 200 mL in all are less than that a day. If
    more irrigant went in than came out, part of the output is not charted: the amount is unknown.
    """
    output = collect_urine(grid, events, DAY, options)
    shortest, longest = (from_hours(bound) for bound in options.urine_covered_hours)
    is_possible = output.volume >= 0
    is_covered = is_possible & (output.covered >= shortest) & (output.covered <= longest)
    is_longer = is_possible & (output.covered > longest)
    scaled = np.round(output.volume * DAY / np.where(is_covered, output.covered, 1), 6)
    per_day = np.where(is_covered, scaled, output.volume)
    is_judged = output.is_new & (is_covered | (is_longer & (per_day < 500)))
    worst = [in_last_day(grid, is_judged & (per_day < bound)) for bound in (500, 200)]
    return 3 * worst[0] + worst[1], in_last_day(grid, is_judged)


def in_last_day(grid: HourlyGrid, is_true: Bools) -> Bools:
    """Whether it is true at any of each hour's last 24 hours, shape (N,)."""
    row = np.flatnonzero(is_true)
    end_of_stay = grid.offsets[1:][grid.row_stay[row]]
    return grid.cover(row, np.minimum(row + 24, end_of_stay))


def collect_urine(
    grid: HourlyGrid, events: pl.DataFrame, window: int, options: Sepsis3Options
) -> UrineOutput:
    """The urine that is in the record when the score of each hour is computed.

    Args:
        grid: The stays.
        events: The contract's table.
        window: Microseconds before the last reading whose readings belong to it.
        options: The definition's parameters.
    """
    rows = events.filter(pl.col("variable").is_in(list(_SIGNS)))
    rows = rows.sort("stay_id", "time", "variable", "known_at", "value")
    stay, time = grid.stay_positions(rows), microseconds(rows["time"])
    is_inside = (stay >= 0) & (time > grid.admitted[stay])
    rows, stay, time = rows.filter(is_inside), stay[is_inside], time[is_inside]
    amount = rows["value"].to_numpy() * rows["variable"].replace_strict(_SIGNS).to_numpy()
    delay = from_hours(options.charting_delay_hours)
    counts_from = np.maximum(time, microseconds(rows["known_at"]) - delay)

    is_reading = (rows["variable"] == "urine").to_numpy()
    readings = (stay[is_reading], time[is_reading], counts_from[is_reading])
    last = _last_reading(grid, *readings)
    before = np.append(0, last[:-1])[: len(last)]
    before[grid.offsets[:-1][grid.lengths > 0]] = grid.admitted[grid.lengths > 0]
    start = _previous_reading(grid, *readings, not_after=last - window)
    volume = _sum_between(grid, (stay, time, counts_from, amount), start, last)
    return UrineOutput(volume=volume, covered=last - start, is_new=last > before)


def _last_reading(grid: HourlyGrid, stay: Ints, time: Ints, counts_from: Ints) -> Ints:
    """The time of each hour's last reading; admission if there is none, shape (N,)."""
    row = grid.first_row(stay, counts_from)
    has_row = row < grid.offsets[stay + 1]
    last = grid.per_row(grid.admitted)
    np.maximum.at(last, row[has_row], time[has_row])
    # One number line for all stays, so that one running maximum does not pass from stay to stay.
    since_admission = last - grid.per_row(grid.admitted)
    stretch = int(since_admission.max(initial=0)) + 1
    running = np.maximum.accumulate(grid.row_stay * stretch + since_admission)
    return np.asarray(running - grid.row_stay * stretch + grid.per_row(grid.admitted))


def _previous_reading(
    grid: HourlyGrid, stay: Ints, time: Ints, counts_from: Ints, not_after: Ints
) -> Ints:
    """The time of the last reading at or before a moment of each hour; admission if there is none.

    Args:
        grid: The stays.
        stay: The position of each reading's stay, sorted by stay and time.
        time: The time of each reading.
        counts_from: The first moment whose score may use the reading.
        not_after: The moment, shape (N,).

    Returns:
        Shape (N,).
    """
    first = np.searchsorted(stay, np.arange(len(grid.stay_id)))[grid.row_stay]
    reading = _search(grid, stay, time, not_after)
    while True:
        exists = reading >= first
        is_unknown = exists & (np.append(counts_from, 0)[reading] > grid.time)
        if not is_unknown.any():
            return np.where(exists, np.append(time, 0)[reading], grid.per_row(grid.admitted))
        reading = reading - is_unknown


def _sum_between(
    grid: HourlyGrid, amounts: tuple[Ints, Ints, Ints, Floats], start: Ints, last: Ints
) -> Floats:
    """The sum of the amounts in (start, last] that are in the record at each hour, shape (N,).

    Args:
        grid: The stays.
        amounts: (stay, time, counts_from, amount), sorted by stay and time.
        start: Shape (N,).
        last: Shape (N,).
    """
    stay, time, counts_from, amount = amounts
    cumulative = np.append(0.0, np.cumsum(amount))
    stop = _search(grid, stay, time, last) + 1
    volume = cumulative[stop] - cumulative[_search(grid, stay, time, start) + 1]
    # Amounts that are not in the record yet are taken out again.
    low, high = grid.first_row(stay, time), grid.first_row(stay, counts_from)
    missing = np.repeat(np.arange(len(stay)), high - low)
    row = np.arange(len(missing)) - np.repeat(np.cumsum(high - low) - high, high - low)
    is_between = (time[missing] > start[row]) & (time[missing] <= last[row])
    np.subtract.at(volume, row[is_between], amount[missing][is_between])
    return np.asarray(np.round(volume, 6))


def _search(grid: HourlyGrid, stay: Ints, time: Ints, moment: Ints) -> Ints:
    """The last row of a table, sorted by stay and time, at or before each hour's moment.

    Shape (N,); it may lie in an earlier stay, or be -1.
    """
    since = time - grid.admitted[stay]
    limit = moment - grid.per_row(grid.admitted)
    widest = max(int(np.abs(values).max(initial=0)) for values in (since, limit))
    stretch = 2 * widest + 2
    line = stay * stretch + since
    return np.asarray(np.searchsorted(line, grid.row_stay * stretch + limit, "right") - 1)
