"""The latest known fact at every row, by rank: what carry-forward and "hours since" rest on.

Facts come ascending by stay, then by the time at which they were true; a fact's rank is its
position. The fact that holds at a row is the one of highest rank that has arrived in the stay so
far, so that a stale arrival (late, and true of an earlier time) never replaces a newer one.
"""

from __future__ import annotations

import numpy as np

from flowsheet.typing import Floats32, Ints, Ints32
from flowsheet.windows.grid import HOUR, Grid


def arrivals(grid: Grid, row: Ints, column: Ints, width: int) -> Ints32:
    """The highest rank that arrives in each cell, shape (N, width); -1 where nothing does."""
    ranks = np.full(grid.rows * width, -1, np.int32)
    ranks[row * width + column] = np.arange(
        len(row), dtype=np.int32
    )  # of equal indices the last one stays
    return ranks.reshape(grid.rows, width)


def carry(grid: Grid, ranks: Ints32, stay: Ints) -> Ints32:
    """The highest rank so far at each row, -1 where none; ``stay`` is the position of each fact's stay."""
    held = np.maximum.accumulate(ranks, axis=0)
    first_of_stay = np.searchsorted(stay, np.arange(len(grid.stay_id)))
    held[held < grid.per_row(first_of_stay)[:, None]] = -1
    return held


def age(grid: Grid, held: Ints32, time: Ints) -> Ints:
    """Microseconds from the held fact's time to p(k), shape of ``held``; meaningless where nothing is held."""
    return np.asarray(grid.predicted_at[:, None] - np.append(time, 0)[held])


def hours(age: Ints, held: Ints32) -> Floats32:
    """The age in hours; NaN where nothing is held."""
    return np.where(held < 0, np.float32(np.nan), (age / HOUR).astype(np.float32))
