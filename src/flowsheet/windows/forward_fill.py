"""Forward fill by rank: the latest known value at every row, and its age.

The events (or exposures) are sorted by stay, then by the time at which they were true; the rank of
an event is its position in that order. At each row the event of highest rank that has arrived in
the stay so far is valid. An event that arrives late, and was true at an earlier time, therefore
never replaces a newer one.
"""

from __future__ import annotations

import numpy as np

from flowsheet.cohort.time_grid import HOUR
from flowsheet.typing import Floats32, Ints, Ints32
from flowsheet.windows.grid import Grid


def rank_arrivals(grid: Grid, row: Ints, column: Ints, width: int) -> Ints32:
    """The highest rank that arrives in each cell, or -1; shape (N, width).

    Args:
        grid: The grid with N rows.
        row: Row in which each event arrives, shape (M,).
        column: Column of each event, from 0, shape (M,).
        width: Number of columns.
    """
    ranks = np.full(grid.rows * width, -1, np.int32)
    # where several events arrive in one cell, the last assignment counts: the highest rank
    ranks[row * width + column] = np.arange(len(row), dtype=np.int32)
    return ranks.reshape(grid.rows, width)


def forward_fill(grid: Grid, ranks: Ints32, stay: Ints) -> Ints32:
    """The highest rank so far in the stay at each row, or -1; shape of ``ranks``.

    ``stay`` is the position of the stay of each event, shape (M,).
    """
    filled = np.maximum.accumulate(ranks, axis=0)
    first_of_stay = np.searchsorted(stay, np.arange(len(grid.stay_id)))
    filled[filled < grid.per_row(first_of_stay)[:, None]] = -1
    return filled


def compute_age(grid: Grid, filled: Ints32, time: Ints) -> Ints:
    """Microseconds from the time of the valid event to p(k), shape of ``filled``.

    ``time`` has one element an event, shape (M,). The age is meaningless where ``filled`` is -1.
    """
    return np.asarray(grid.predicted_at[:, None] - np.append(time, 0)[filled])


def age_in_hours(age: Ints, filled: Ints32) -> Floats32:
    """The age in hours; NaN where ``filled`` is -1."""
    return np.where(filled < 0, np.float32(np.nan), (age / HOUR).astype(np.float32))
