"""The target of each row, and the rows that are scored.

The target window of the row of step k is (p(k), t(k + horizon)]: everything after the prediction up
to the end of the horizon; with horizon 0 it is the rest of the step after the cut-off. An episode
covers the half-open time [onset, end); a null end means that it continues after the record.

``response: state``
    y(k) = 1 when some episode has onset <= end of the window and end > p(k): septic at some time in
    the window.
``response: onset``
    y(k) = 1 when the *first* onset of the stay is in the window. Rows with p(k) at or after the
    first onset leave the risk set.
``in_state``
    Some episode has onset <= p(k) < end. This is the truth, not what was known; it describes rows
    and is not an input.

A row is ``scored`` when it is in the risk set and its target counts as observed:

- never where p(k) is after discharge (the last, partial step of a stay) or before the record starts
  (a cut-off earlier than ``observed_from``), as there is no patient to predict for;
- with ``censor: keep`` always otherwise. The part of the window after discharge counts as free of
  the event unless the onset of an episode was recorded there (PhysioNet 2019 labels onsets up to 6
  h after the last row);
- with ``censor: drop`` where the window ends before or at discharge, or where y(k) = 1 is certain
  at discharge already (by an episode with onset <= discharged_at). An onset after discharge, inside
  a window that extends beyond the stay, does not count as observed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.cohort.time_grid import microseconds
from flowsheet.config import Censor, Response, TaskConfig
from flowsheet.typing import Bools, Ints, Labels
from flowsheet.windows.grid import Grid


@dataclass(frozen=True)
class Episodes:
    """E episodes of the stays of a grid; times in microseconds."""

    stay: Ints  # (E,) position of the stay
    onset: Ints
    end: Ints  # NEVER where it continues after the record
    known_at: Ints

    @classmethod
    def from_table(cls, grid: Grid, episodes: pl.DataFrame) -> Episodes:
        """The episodes of the stays that have rows, sorted by stay and onset."""
        stay = grid.positions(episodes["stay_id"].to_numpy())
        onset = microseconds(episodes["onset"])
        end = microseconds(episodes["end"])
        known_at = microseconds(episodes["known_at"])
        order = np.lexsort((known_at, end, onset, stay))
        return cls(stay, onset, end, known_at).select(order[stay[order] >= 0])

    def select(self, episodes: Bools | Ints) -> Episodes:
        """The episodes of a mask or at positions."""
        return Episodes(
            self.stay[episodes], self.onset[episodes], self.end[episodes], self.known_at[episodes]
        )

    def first_onsets(self) -> Episodes:
        """The first episode of each stay, shortened to its onset: end = onset."""
        is_first = np.append(True, self.stay[1:] != self.stay[:-1])[: len(self.stay)]
        first = self.select(is_first)
        return Episodes(first.stay, first.onset, first.onset, first.known_at)


@dataclass(frozen=True)
class Targets:
    """Targets of the N rows of a grid, each of shape (N,); defined at the top of the module."""

    y: Labels
    scored: Bools
    in_state: Bools


def build_targets(grid: Grid, episodes: pl.DataFrame, task: TaskConfig) -> Targets:
    """The targets of every row; ``episodes`` is the contract's table."""
    all_episodes = Episodes.from_table(grid, episodes)
    is_state = task.response is Response.state
    responses = all_episodes if is_state else all_episodes.first_onsets()
    y = _is_in_window(grid, responses, task.horizon)
    before_discharge = responses.select(responses.onset <= grid.discharged[responses.stay])
    y_at_discharge = _is_in_window(grid, before_discharge, task.horizon)
    scored = _is_observed(grid, task, y_at_discharge)
    if not is_state:
        scored &= ~_is_after_onset(grid, responses)
    return Targets(y.astype(np.int8), scored, _is_in_state(grid, all_episodes))


def _is_in_window(grid: Grid, episodes: Episodes, horizon: int) -> Bools:
    """Rows whose window overlaps an episode: onset <= t(k + horizon), and p(k) < end."""
    first = grid.step_of(episodes.stay, episodes.onset) - horizon
    stop = grid.cell(episodes.stay, episodes.end)
    return grid.cover(grid.row(episodes.stay, first), grid.row(episodes.stay, stop))


def _is_in_state(grid: Grid, episodes: Episodes) -> Bools:
    """Rows with onset <= p(k) < end of an episode."""
    first = grid.cell(episodes.stay, episodes.onset)
    stop = grid.cell(episodes.stay, episodes.end)
    return grid.cover(grid.row(episodes.stay, first), grid.row(episodes.stay, stop))


def _is_after_onset(grid: Grid, episodes: Episodes) -> Bools:
    """Rows with p(k) at or after the onset of an episode."""
    first = grid.cell(episodes.stay, episodes.onset)
    return grid.cover(grid.row(episodes.stay, first), grid.offsets[episodes.stay + 1])


def _is_observed(grid: Grid, task: TaskConfig, y_at_discharge: Bools) -> Bools:
    """Rows with a patient at p(k) and a target that counts as observed."""
    discharged = grid.per_row(grid.discharged)
    has_started = grid.per_row(grid.record_start) <= grid.predicted_at
    is_present = has_started & (grid.predicted_at <= discharged)
    if task.censor is Censor.keep:
        return is_present
    window_end = grid.per_row(grid.admitted) + (grid.steps + task.horizon) * grid.step
    return is_present & ((window_end <= discharged) | y_at_discharge)
