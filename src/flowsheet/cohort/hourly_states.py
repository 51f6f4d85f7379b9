"""Responses that are states of the hour: from a criterion of every hour to episodes.

The criterion of hour h, the moment m = admission + h hours, is judged ``charting_delay_hours``
later, by what is in the record then; later facts count from the hour of their arrival. So no
episode changes once it is known.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field

from flowsheet.cohort.sepsis3 import Sepsis3Options
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.latest import find_last, select_variable
from flowsheet.cohort.time_grid import NEVER, from_hours, microseconds
from flowsheet.config import FrozenModel
from flowsheet.typing import Bools, Floats, Ints

Hours = Annotated[float, Field(ge=0, le=1_000)]


class StateOptions(FrozenModel):
    """When an hourly criterion is an episode."""

    charting_delay_hours: Annotated[float, Field(ge=0, le=24)] = 1.0
    """An hour is judged this much later; an onset is known at the earliest this long after it."""
    min_hours: Annotated[int, Field(ge=1, le=168)] = 1
    """Hours in a row that the criterion must hold; the onset is the first of them."""
    end_after_hours: Annotated[int, Field(ge=1, le=336)] = 1
    """Hours in a row without it for the episode to end; the end is when this is known."""
    admission_window_hours: Hours = 4.0
    """An episode whose onset is at most this long after admission was present on admission."""

    @property
    def timing(self) -> Sepsis3Options:
        """The delay, in the form that the hourly functions of Sepsis-3 take."""
        return Sepsis3Options(charting_delay_hours=self.charting_delay_hours)


def latest_value(
    grid: HourlyGrid,
    events: pl.DataFrame,
    variable: str,
    within_hours: float,
    options: StateOptions,
) -> Floats:
    """The last value of each hour that is in the record and not older; NaN without one.

    Args:
        grid: The stays.
        events: The contract's table.
        variable: Its variable.
        within_hours: The greatest age of a value.
        options: The charting delay.

    Returns:
        Shape (N,).
    """
    charted = select_variable(grid, events, variable)
    return carry(grid, charted, charted["value"].to_numpy(), within_hours, options)


def carry(
    grid: HourlyGrid,
    charted: pl.DataFrame,
    values: Floats,
    within_hours: float,
    options: StateOptions,
) -> Floats:
    """The value of the last of the sorted rows at each hour, if it is not too old; else NaN.

    Args:
        grid: The stays.
        charted: Rows with stay_id, time and known_at, sorted by stay and time.
        values: What each row says, shape (rows,).
        within_hours: The greatest age of a row.
        options: The charting delay.

    Returns:
        Shape (N,).
    """
    last = find_last(grid, charted, options.timing)
    time = np.append(microseconds(charted["time"]), -NEVER)[last]
    is_recent = (last >= 0) & (grid.time - time <= from_hours(within_hours))
    return np.where(is_recent, np.append(values, np.nan)[last], np.nan)


def is_running(
    grid: HourlyGrid, treatments: pl.DataFrame, drugs: list[str], options: StateOptions
) -> Bools:
    """Whether an infusion of one of the drugs runs at each hour, shape (N,).

    Args:
        grid: The stays.
        treatments: The contract's table.
        drugs: Any of them.
        options: The charting delay.
    """
    is_infusion = (pl.col("end") > pl.col("start")) & (pl.col("dose").fill_null(1.0) > 0)
    rows = treatments.filter(is_infusion & pl.col("drug").is_in(drugs))
    rows = rows.filter(grid.stay_positions(rows) >= 0)
    known = microseconds(rows["known_at"]) - from_hours(options.charting_delay_hours)
    start = np.maximum(microseconds(rows["start"]), known)
    return grid.covered(grid.stay_positions(rows), start, microseconds(rows["end"]))


def find_state_episodes(grid: HourlyGrid, is_met: Bools, options: StateOptions) -> pl.DataFrame:
    """The episodes of a criterion.

    Args:
        grid: The stays.
        is_met: Whether the criterion holds at each hour, shape (N,).
        options: How long it must hold, and must be absent.
    """
    delay = from_hours(options.charting_delay_hours)
    confirmed = np.flatnonzero(_run_length(grid, is_met) >= options.min_hours)
    recovered = np.flatnonzero(_run_length(grid, ~is_met) >= options.end_after_hours)
    time = np.append(grid.time, NEVER)
    stay = np.arange(len(grid.stay_id))
    first_row = grid.offsets[:-1]
    parts = []
    while True:
        # the onset is min_hours - 1 rows before the row that confirms it
        row = _first_at_or_after(confirmed, first_row + options.min_hours - 1, grid.rows)
        is_inside = row < grid.offsets[stay + 1]
        stay, row = stay[is_inside], row[is_inside]
        if not len(stay):
            break
        end_row = _first_at_or_after(recovered, row + 1, grid.rows)
        ends = end_row < grid.offsets[stay + 1]
        end = np.where(ends, time[end_row] + delay, NEVER)
        onset = np.minimum(time[row - options.min_hours + 1], grid.discharged[stay])
        parts.append(_as_rows(grid, stay, onset, end, time[row] + delay, options))
        is_over = end <= grid.discharged[stay]
        stay, end = stay[is_over], end[is_over]
        first_row = grid.first_row(stay, end)
    return pl.concat([_NO_EPISODES, *parts])


_NO_EPISODES = pl.DataFrame(
    schema={
        "stay_id": pl.Int64(),
        "onset": pl.Datetime("us"),
        "end": pl.Datetime("us"),
        "known_at": pl.Datetime("us"),
        "present_on_admission": pl.Boolean(),
    }
)


def _as_rows(  # noqa: PLR0917 - the columns of a row
    grid: HourlyGrid, stay: Ints, onset: Ints, end: Ints, known_at: Ints, options: StateOptions
) -> pl.DataFrame:
    window = from_hours(options.admission_window_hours)
    rows = pl.DataFrame(
        {
            "stay_id": grid.stay_id[stay],
            "onset": onset,
            "end": end,
            "known_at": known_at,
            "present_on_admission": onset - grid.admitted[stay] <= window,
        }
    )
    has_end = pl.Series(end <= grid.discharged[stay])
    rows = rows.with_columns(end=pl.when(has_end).then("end"))
    return rows.cast(_NO_EPISODES.schema)


def _run_length(grid: HourlyGrid, flags: Bools) -> Ints:
    """For how many hours in a row, up to each hour, the flag has been true; shape (N,)."""
    row = np.arange(grid.rows)
    last_false = np.maximum.accumulate(np.where(flags, -1, row))
    before_stay = grid.per_row(grid.offsets[:-1]) - 1
    return np.asarray(row - np.maximum(last_false, before_stay))


def _first_at_or_after(rows: Ints, start: Ints, default: int) -> Ints:
    """The first of the sorted rows that is not before each start; ``default`` without one."""
    return np.asarray(np.append(rows, default)[np.searchsorted(rows, start)])
