"""The patient's own past responses, as far as they were known when predicting.

Column j of the row of step k speaks of step k - j, as far as it had passed by p(k): (t(k-j-1),
min(t(k-j), p(k))]. With horizon 1 or more column 0 is the step that just ended; with horizon 0 it
is the part of the current step before the cut-off, and column 1 the whole step before.

``response: state``: 1 when an episode with known_at <= p(k) was on at some time of it. ``response:
onset``: 1 when an onset with known_at <= p(k) fell into it, which never happens while the stay is
in the risk set.

0 therefore means "not known to be septic": an episode that is only recognised later reads 0 until
then, and 1 in every column that it covers from then on. NaN: the step lies before the stay's first
row.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.config import Response, TaskConfig
from flowsheet.typing import Floats32, Ints
from flowsheet.windows.grid import Grid
from flowsheet.windows.task import Episodes


def response_history(grid: Grid, episodes: pl.DataFrame, task: TaskConfig) -> Floats32:
    """Shape (N, history_lags)."""
    told = Episodes.of(grid, episodes)
    history = np.empty((grid.rows, task.history_lags), np.float32)
    since_first = grid.steps - grid.per_row(grid.first)
    for lag in range(task.history_lags):
        history[:, lag] = grid.cover(*_rows(grid, told, task.response, lag))
        history[since_first < lag, lag] = np.nan
    return history


def _rows(grid: Grid, told: Episodes, response: Response, lag: int) -> tuple[Ints, Ints]:
    """The rows [start, stop) at which each episode reads 1 at that lag."""
    first = grid.step_of(told.stay, told.onset)
    last = first if response is Response.onset else grid.step_of(told.stay, told.end)
    known = np.maximum(grid.cell(told.stay, told.known_at), grid.cell(told.stay, told.onset))
    return grid.row(told.stay, np.maximum(first + lag, known)), grid.row(told.stay, last + lag + 1)
