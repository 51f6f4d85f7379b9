"""Earlier responses of the patient, as far as they were known at the prediction.

Column j of the row of step k covers step k - j, as far as it had passed at p(k): (t(k-j-1),
min(t(k-j), p(k))]. With horizon 1 or more, column 0 is the step that just ended; with horizon 0 it
is the part of the current step before the cut-off, and column 1 is the whole step before.

``target: state``
    1 when an episode with known_at <= p(k) was present at some time of the step.
``target: onset``
    1 when an onset with known_at <= p(k) was in the step; never while the stay is in the risk set.

0 therefore means "not known to be septic": an episode that is recognised later reads 0 until then,
and from then on 1 in every column that it covers. NaN: the step is before the first row of the
stay.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.config import Target, TaskConfig
from flowsheet.typing import Floats32, Ints
from flowsheet.windows.grid import Grid
from flowsheet.windows.task import Episodes


def build_response_history(grid: Grid, episodes: pl.DataFrame, task: TaskConfig) -> Floats32:
    """The response history of every row, shape (N, history_lags)."""
    stay_episodes = Episodes.from_table(grid, episodes, task.response)
    history = np.empty((grid.rows, task.history_lags), np.float32)
    steps_since_first = grid.steps - grid.per_row(grid.first)
    for lag in range(task.history_lags):
        start, stop = _find_rows(grid, stay_episodes, task.target, lag)
        history[:, lag] = grid.cover(start, stop)
        history[steps_since_first < lag, lag] = np.nan
    return history


def _find_rows(grid: Grid, episodes: Episodes, target: Target, lag: int) -> tuple[Ints, Ints]:
    """The rows [start, stop) in which each episode reads 1 at that lag."""
    stay = episodes.stay
    first = grid.step_of(stay, episodes.onset)
    last = first if target is Target.onset else grid.step_of(stay, episodes.end)
    known = np.maximum(grid.cell(stay, episodes.known_at), grid.cell(stay, episodes.onset))
    return grid.row(stay, np.maximum(first + lag, known)), grid.row(stay, last + lag + 1)
