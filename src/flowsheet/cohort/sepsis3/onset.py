"""Onset and end of episodes: the score rises around a suspicion, and later recovers.

Of all onsets that a stay's record would allow, the one that was known first opens the episode; what
becomes known later about the same time does not change it. After the end of an episode the next
one may begin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.cohort.schema import EPISODES, to_contract
from flowsheet.cohort.sepsis3.frames import SEPSIS
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.time_grid import HOUR, ceil_div, from_hours, microseconds
from flowsheet.typing import Bools, Ints

DAY = 24 * HOUR
_NO_SCORE = 1_000
"""Higher than any score, so that an hour outside the window is never the baseline."""
_BEFORE_ALL = np.iinfo(np.int64).min
_AFTER_ALL = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Onsets:
    """At most one onset per stay; times in microseconds, all of shape (onsets,)."""

    stay: Ints
    """Positions in the grid."""
    time: Ints
    known_at: Ints
    base: Ints
    """The score from which it rose."""


@dataclass(frozen=True)
class Windows:
    """W suspicions and the L hours of the widest window; times in microseconds."""

    stay: Ints  # (W,)
    time: Ints  # (W, L) the hour's moment, or discharge if that is earlier
    known_at: Ints  # (W, L) when score and suspicion were both in the record
    meets_criterion: Bools  # (W, L)
    base: Ints  # (W, L) the score from which the rise is measured

    @classmethod
    def from_suspicions(
        cls, grid: HourlyGrid, suspicions: pl.DataFrame, score: Ints, options: Sepsis3Options
    ) -> Windows:
        """The windows around suspicions.

        Args:
            grid: The stays.
            suspicions: Columns as in ``SUSPICIONS``.
            score: The total score for the criterion ``level``, its change for ``rise``, shape
                (N,); at hour 0, admission, it is 0.
            options: The definition's parameters.
        """
        stay = grid.stay_positions(suspicions)
        time = microseconds(suspicions["time"]) - grid.admitted[stay]
        first = np.maximum(ceil_div(time - from_hours(options.window_before_hours), HOUR), 0)
        last = (time + from_hours(options.window_after_hours)) // HOUR
        last = np.minimum(last, grid.lengths[stay])
        hour = first[:, None] + np.arange(int((last - first + 1).max(initial=1)))
        inside = hour <= last[:, None]
        row = np.where(inside & (hour > 0), grid.offsets[stay][:, None] + hour, 0)
        score_at = np.append(0, score)[row]
        base = np.minimum.accumulate(np.where(inside, score_at, _NO_SCORE), axis=1)
        if options.criterion == "level":
            base = np.zeros_like(base)
        moment = grid.admitted[stay][:, None] + hour * HOUR
        return cls(
            stay=stay,
            time=np.minimum(moment, grid.discharged[stay][:, None]),
            known_at=np.maximum(
                moment + from_hours(options.charting_delay_hours),
                microseconds(suspicions["known_at"])[:, None],
            ),
            meets_criterion=inside & (hour > 0) & (score_at - base >= options.points),
            base=base,
        )

    def first_known(self, not_before: Ints) -> Onsets:
        """For each stay the onset that is known first.

        Args:
            not_before: The earliest time of an onset, of every stay of the grid, shape (S,).
        """
        allowed = self.meets_criterion & (self.time >= not_before[self.stay][:, None])
        window = np.flatnonzero(allowed.any(axis=1))
        hour = allowed[window].argmax(axis=1)
        stay = self.stay[window]
        time = self.time[window, hour]
        known_at = self.known_at[window, hour]
        base = self.base[window, hour]
        order = np.lexsort((base, time, known_at, stay))
        _, first_of_stay = np.unique(stay[order], return_index=True)
        chosen = order[first_of_stay]
        return Onsets(stay[chosen], time[chosen], known_at[chosen], base[chosen])


def find_episodes(
    grid: HourlyGrid,
    suspicions: pl.DataFrame,
    score: Ints,
    doses: pl.DataFrame,
    options: Sepsis3Options,
) -> pl.DataFrame:
    """The contract's episodes.

    Args:
        grid: The stays.
        suspicions: Columns as in ``SUSPICIONS``.
        score: The total score for the criterion ``level``, its change for ``rise``, shape (N,).
        doses: The doses of antibiotics, confirmed or not.
        options: The definition's parameters.
    """
    windows = Windows.from_suspicions(grid, suspicions, score, options)
    window = from_hours(options.admission_window_hours)
    is_treated = _treated_hours(grid, doses, options)
    not_before = np.full(len(grid.stay_id), _BEFORE_ALL)
    episodes = [pl.DataFrame(schema=EPISODES)]
    while True:
        onsets = windows.first_known(not_before)
        if not len(onsets.stay):
            return pl.concat(episodes).sort("stay_id", "onset")
        end = _find_ends(grid, onsets, score, is_treated, options)
        is_early = onsets.time - grid.admitted[onsets.stay] <= window
        never_ends = end > grid.discharged[onsets.stay]
        not_before[onsets.stay] = np.where(never_ends, _AFTER_ALL, end)
        rows = pl.DataFrame(
            {
                "stay_id": grid.stay_id[onsets.stay],
                "response": SEPSIS,
                "onset": onsets.time,
                "end": end,
                "known_at": onsets.known_at,
                "present_on_admission": is_early,
            }
        )
        end_or_null = pl.when(~pl.Series(never_ends)).then("end").alias("end")
        episodes.append(to_contract("episodes", rows.with_columns(end_or_null)))


def _treated_hours(grid: HourlyGrid, doses: pl.DataFrame, options: Sepsis3Options) -> Bools:
    """Hours at which recent antibiotics prevent the end of an episode, shape (N,)."""
    if options.end != "recovery":
        return np.zeros(grid.rows, bool)
    time, known_at, until = (microseconds(doses[name]) for name in ("time", "known_at", "until"))
    start = np.maximum(time, known_at - from_hours(options.charting_delay_hours))
    stop = until + from_hours(options.end_antibiotic_free_hours)
    return grid.covered(grid.stay_positions(doses), start, stop)


def _find_ends(
    grid: HourlyGrid, onsets: Onsets, score: Ints, is_treated: Bools, options: Sepsis3Options
) -> Ints:
    """When each episode ends, by what was in the record at that time; after discharge: never.

    Args:
        grid: The stays.
        onsets: The episodes' onsets.
        score: The score of the criterion, shape (N,).
        is_treated: Whether recent antibiotics prevent the end, shape (N,).
        options: The definition's parameters.

    Returns:
        Microseconds, shape (onsets,).
    """
    if options.end == "fixed":
        return onsets.time + from_hours(24 * options.end_days)
    delay = from_hours(options.charting_delay_hours)
    base = np.zeros(len(grid.stay_id), np.int64)
    base[onsets.stay] = onsets.base
    is_recovered = ~is_treated & (score - grid.per_row(base) <= options.end_points)
    recovered = np.flatnonzero(is_recovered)
    earliest = np.maximum(onsets.known_at - delay, onsets.time + 1)
    start = grid.first_row(onsets.stay, earliest)
    row = np.append(recovered, grid.rows)[np.searchsorted(recovered, start)]
    is_inside = row < grid.offsets[onsets.stay + 1]
    end = np.append(grid.time, 0)[row] + delay
    return np.where(is_inside, end, grid.discharged[onsets.stay] + 1)


def count_septic_days(grid: HourlyGrid, episodes: pl.DataFrame) -> int:
    """Days of the stays, counted from admission, that overlap an episode."""
    stay = grid.stay_positions(episodes)
    end = episodes["end"].cast(pl.Int64).fill_null(_AFTER_ALL).to_numpy()
    last_moment = np.minimum(end, grid.discharged[stay])
    first_day = ceil_div(microseconds(episodes["onset"]) - grid.admitted[stay], DAY)
    last_day = ceil_div(last_moment - grid.admitted[stay], DAY)
    days = pl.select(pl.int_ranges(pl.Series(first_day), pl.Series(last_day + 1))).to_series()
    stay_days = pl.DataFrame({"stay": stay, "day": days}).explode("day").drop_nulls()
    return stay_days.n_unique()
