"""What is predicted at each row, and which rows count.

The target window of the row of step k is (p(k), t(k + horizon)]: everything after the prediction up
to the end of the horizon; with horizon 0 that is the rest of the step after the cut-off. An episode
is the half-open time [onset, end), and a null end means that it outlasts the record.

``response: state`` y(k) = 1 when some episode has onset <= window's end and end > p(k): septic at
    some time in the window.
``response: onset`` y(k) = 1 when the stay's *first* onset lies in the window. Rows with p(k) at or
    after the first onset leave the risk set.
``in_state`` some episode has onset <= p(k) < end. This is the truth, not what was known: it marks
    rows, it is no input.

A row is ``scored`` when it is in the risk set and its target counts as observed:

- never where p(k) lies after discharge (the last, partial step of a stay) or before the record
  begins (a cut-off earlier than ``observed_from``): nobody is there to predict for;
- ``censor: keep``: otherwise always; the part of the window after discharge is free of the event
  unless an episode's onset was recorded there (PhysioNet 2019 labels onsets up to 6 h after the
  last row);
- ``censor: drop``: where the window ends by discharge, or where y(k) = 1 is seen by then already
  (by an episode with onset <= discharged_at). An onset after discharge inside a window that
  outlasts the stay is not "seen".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.config import Censor, Response, TaskConfig
from flowsheet.typing import Bools, Ints, Labels
from flowsheet.windows.grid import Grid, microseconds


@dataclass(frozen=True)
class Episodes:
    """E episodes of a grid's stays; times in microseconds."""

    stay: Ints  # (E,) position of the stay
    onset: Ints
    end: Ints  # NEVER where it outlasts the record
    known_at: Ints

    @classmethod
    def of(cls, grid: Grid, episodes: pl.DataFrame) -> Episodes:
        """The episodes of the stays that have rows, sorted by stay and onset."""
        stay = grid.positions(episodes["stay_id"].to_numpy())
        onset, end, known = (microseconds(episodes[name]) for name in ("onset", "end", "known_at"))
        order = np.lexsort((known, end, onset, stay))
        return cls(stay, onset, end, known).where(order[stay[order] >= 0])

    def where(self, chosen: Bools | Ints) -> Episodes:
        """The chosen ones."""
        return Episodes(
            self.stay[chosen], self.onset[chosen], self.end[chosen], self.known_at[chosen]
        )

    def first(self) -> Episodes:
        """The first of each stay, as long as its onset: half-open [onset, onset)."""
        first = np.append(True, self.stay[1:] != self.stay[:-1])[: len(self.stay)]
        chosen = self.where(first)
        return Episodes(chosen.stay, chosen.onset, chosen.onset, chosen.known_at)


@dataclass(frozen=True)
class Targets:
    """What the rows of a grid are asked, each of shape (N,); see the module."""

    y: Labels
    scored: Bools
    in_state: Bools


def targets(grid: Grid, episodes: pl.DataFrame, task: TaskConfig) -> Targets:
    """The targets of every row; ``episodes`` is the contract's table."""
    told = Episodes.of(grid, episodes)
    response = told if task.response is Response.state else told.first()
    y = _in_window(grid, response, task.horizon)
    seen = _in_window(
        grid, response.where(response.onset <= grid.discharged[response.stay]), task.horizon
    )
    in_state = grid.cover(
        *_rows(grid, told.stay, grid.cell(told.stay, told.onset), grid.cell(told.stay, told.end))
    )
    scored = _observed(grid, task, seen)
    if task.response is Response.onset:
        last = grid.offsets[response.stay + 1]
        scored &= ~grid.cover(
            grid.row(response.stay, grid.cell(response.stay, response.onset)), last
        )
    return Targets(y.astype(np.int8), scored, in_state)


def _rows(grid: Grid, stay: Ints, start: Ints, stop: Ints) -> tuple[Ints, Ints]:
    """Steps [start, stop) of a stay as rows."""
    return grid.row(stay, start), grid.row(stay, stop)


def _in_window(grid: Grid, episodes: Episodes, horizon: int) -> Bools:
    """Rows whose target window meets an episode: onset <= t(k + horizon), and p(k) < end."""
    reached = grid.step_of(episodes.stay, episodes.onset) - horizon
    over = grid.cell(episodes.stay, episodes.end)
    return grid.cover(*_rows(grid, episodes.stay, reached, over))


def _observed(grid: Grid, task: TaskConfig, seen: Bools) -> Bools:
    discharged = grid.per_row(grid.discharged)
    present = (grid.per_row(grid.begun) <= grid.predicted_at) & (grid.predicted_at <= discharged)
    if task.censor is Censor.keep:
        return present
    window_end = grid.per_row(grid.admitted) + (grid.steps + task.horizon) * grid.step
    return present & ((window_end <= discharged) | seen)
