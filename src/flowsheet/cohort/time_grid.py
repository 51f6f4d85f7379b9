"""Rows of a time grid: the steps of many stays in one flat array, and times as whole microseconds.

The rows of stay i are ``offsets[i]`` to ``offsets[i + 1]``. The hourly grid of the Sepsis-3 label
and the steps of the model-ready windows are both built on this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flowsheet.typing import Bools, Ints

T = TypeVar("T", bound=np.generic)

HOUR = 3_600_000_000
"""Microseconds."""

NEVER = np.iinfo(np.int64).max // 4
"""A time after every other, in microseconds: the end of an episode without an end."""


def microseconds(column: pl.Series) -> Ints:
    """A datetime column as microseconds since 1970; null becomes ``NEVER``."""
    times = column.cast(pl.Datetime("us")).to_numpy()
    return np.where(np.isnat(times), NEVER, times.view(np.int64))


def from_hours(hours: float) -> int:
    """Hours as whole microseconds.

    >>> from_hours(0.5)
    1800000000
    """
    return round(hours * HOUR)


def ceil_div(a: Ints, b: int) -> Ints:
    """The quotient a / b, rounded up.

    >>> ceil_div(np.array([-1, 0, 1, 24, 25]), 24)
    array([0, 0, 1, 1, 2])
    """
    return -(-a // b)


def row_offsets(lengths: Ints) -> Ints:
    """The first row of each stay, and at the end the number of rows, shape (S + 1,).

    >>> row_offsets(np.array([2, 0, 3]))
    array([0, 2, 2, 5])
    """
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


@dataclass(frozen=True)
class TimeGrid:
    """S stays, ascending by ``stay_id``, with N rows in total; times in microseconds."""

    stay_id: Ints  # (S,)
    admitted: Ints  # (S,)
    discharged: Ints  # (S,)
    offsets: Ints  # (S + 1,)

    @property
    def rows(self) -> int:
        """N."""
        return int(self.offsets[-1])

    @property
    def lengths(self) -> Ints:
        """Rows of each stay, shape (S,)."""
        return np.diff(self.offsets)

    def per_row(self, per_stay: NDArray[T]) -> NDArray[T]:
        """A value of each stay, repeated on its rows: (S,) to (N,)."""
        return np.repeat(per_stay, self.lengths)

    def positions(self, stay_id: Ints) -> Ints:
        """The position of each stay in the grid; -1 for a stay that the grid does not contain."""
        if len(self.stay_id) == 0:
            return np.full(len(stay_id), -1, np.int64)
        position = np.minimum(np.searchsorted(self.stay_id, stay_id), len(self.stay_id) - 1)
        return np.where(self.stay_id[position] == stay_id, position, -1)

    def cover(self, start: Ints, stop: Ints) -> Bools:
        """The rows in any range [start, stop), shape (N,); an empty range covers no row."""
        size = self.rows + 1
        opened = np.bincount(start, minlength=size)
        closed = np.bincount(np.maximum(start, stop), minlength=size)
        return np.asarray(np.cumsum(opened - closed)[:-1] > 0)
