"""Onset and end: where the score rises around a suspicion, and when the patient has come through.

Of what a stay's record allows to say, that counts which was known first: it opens the episode, and
what becomes known later about the same time changes it no more. When the episode is over, the next
may begin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.cohort.schema import EPISODES
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.time_grid import HOUR, from_hours, microseconds
from flowsheet.typing import Bools, Ints

_NO_SCORE = 1_000
"""Higher than any score: an hour outside the window is no baseline."""


@dataclass(frozen=True)
class Windows:
    """W suspicions, and the L hours that the widest window has; times in microseconds."""

    stay: Ints  # (W,)
    time: Ints  # (W, L) the hour's moment, or discharge where that is earlier
    known_at: Ints  # (W, L) when score and suspicion were both in the record
    met: Bools  # (W, L) the criterion is met
    base: Ints  # (W, L) what the score has risen from

    @classmethod
    def of(
        cls, grid: HourlyGrid, suspected: pl.DataFrame, score: Ints, options: Sepsis3Options
    ) -> Windows:
        """``score`` (N,) is the total for the level, its change for the rise; at hour 0, admission, it is 0."""
        stay = grid.stay_positions(suspected)
        time = microseconds(suspected["time"]) - grid.admitted[stay]
        first = np.maximum(-((from_hours(options.window_before_hours) - time) // HOUR), 0)
        last = np.minimum(
            (time + from_hours(options.window_after_hours)) // HOUR, grid.lengths[stay]
        )
        hour = first[:, None] + np.arange(int((last - first + 1).max(initial=1)))
        inside = hour <= last[:, None]
        row = np.where(inside & (hour > 0), grid.offsets[stay][:, None] + hour, 0)
        here = np.append(0, score)[row]
        base = np.minimum.accumulate(np.where(inside, here, _NO_SCORE), axis=1)
        if options.criterion == "level":
            base = np.zeros_like(base)
        moment = grid.admitted[stay][:, None] + hour * HOUR
        told = np.maximum(
            moment + from_hours(options.charting_delay_hours),
            microseconds(suspected["known_at"])[:, None],
        )
        met = inside & (hour > 0) & (here - base >= options.points)
        return cls(stay, np.minimum(moment, grid.discharged[stay][:, None]), told, met, base)

    def first(self, free_from: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """Per stay that has one, what is known first at or after ``free_from`` (S,): (stay, onset, known_at, base)."""
        open_ = self.met & (self.time >= free_from[self.stay][:, None])
        window = np.flatnonzero(open_.any(axis=1))
        at = open_[window].argmax(axis=1)
        found = tuple(part[window, at] for part in (self.time, self.known_at, self.base))
        onset, known, base = found
        order = np.lexsort((base, onset, known, self.stay[window]))
        stay, one = np.unique(self.stay[window][order], return_index=True)
        chosen = order[one]
        return stay, onset[chosen], known[chosen], base[chosen]


def episodes(
    grid: HourlyGrid,
    suspected: pl.DataFrame,
    score: Ints,
    given: pl.DataFrame,
    options: Sepsis3Options,
) -> pl.DataFrame:
    """The contract's episodes; ``given`` are the doses of antibiotics, confirmed or not."""
    seen = Windows.of(grid, suspected, score, options)
    treated = _treated(grid, given, options)
    free_from = np.full(len(grid.stay_id), np.iinfo(np.int64).min)
    found = [pl.DataFrame(schema=EPISODES)]
    while True:
        stay, onset, known_at, base = seen.first(free_from)
        if not len(stay):
            return pl.concat(found).sort("stay_id", "onset")
        end = _end(grid, (stay, onset, known_at, base), score, treated, options)
        never = end > grid.discharged[stay]
        free_from[stay] = np.where(never, np.iinfo(np.int64).max, end)
        rows = {"stay_id": grid.stay_id[stay], "onset": onset, "end": end, "known_at": known_at}
        over = pl.when(~pl.Series(never)).then("end").alias("end")
        found.append(pl.DataFrame(rows).with_columns(over).cast(pl.Schema(EPISODES)))


def _treated(grid: HourlyGrid, given: pl.DataFrame, options: Sepsis3Options) -> Bools:
    """Hours at which antibiotics given within ``end_antibiotic_free_hours`` keep an episode on, shape (N,)."""
    stay = grid.stay_positions(given)
    if options.end != "recovery":
        return np.zeros(grid.rows, bool)
    known_at, until = microseconds(given["known_at"]), microseconds(given["until"])
    start = np.maximum(
        microseconds(given["time"]), known_at - from_hours(options.charting_delay_hours)
    )
    return grid.covered(stay, start, until + from_hours(options.end_antibiotic_free_hours))


def _end(
    grid: HourlyGrid,
    opened: tuple[Ints, Ints, Ints, Ints],
    score: Ints,
    treated: Bools,
    options: Sepsis3Options,
) -> Ints:
    """When each episode is over, as far as the record of that moment tells; after discharge: never."""
    stay, onset, known_at, base = opened
    if options.end == "fixed":
        return onset + from_hours(24 * options.end_days)
    settle = from_hours(options.charting_delay_hours)
    low = np.zeros(len(grid.stay_id), np.int64)
    low[stay] = base
    well = np.flatnonzero(~treated & (score - np.repeat(low, grid.lengths) <= options.end_points))
    start = grid.first_row(stay, np.maximum(known_at - settle, onset + 1))
    row = np.append(well, grid.rows)[np.searchsorted(well, start)]
    inside = row < grid.offsets[stay + 1]
    moment = np.append(grid.time, 0)[row] + settle
    return np.where(inside, moment, grid.discharged[stay] + 1)


def septic_days(grid: HourlyGrid, found: pl.DataFrame) -> int:
    """Days of the stays, counted from admission, in which an episode was on at some time."""
    stay = grid.stay_positions(found)
    end = found["end"].cast(pl.Int64).fill_null(np.iinfo(np.int64).max).to_numpy()
    day = 24 * HOUR
    first = -((grid.admitted[stay] - microseconds(found["onset"])) // day)
    last = -((grid.admitted[stay] - np.minimum(end, grid.discharged[stay])) // day)
    days = pl.DataFrame(
        {
            "stay": stay,
            "day": pl.select(pl.int_ranges(pl.Series(first), pl.Series(last + 1))).to_series(),
        }
    )
    return days.explode("day").drop_nulls().n_unique()
