"""The hourly grid of a batch of stays, and the facts that are valid at its hours.

Hour h of a stay is the moment admission + h hours; h runs from 1 to the first hour at or after
discharge. A fact that is valid from one moment until before another covers the hours whose moment
lies between them. This operation and cumulative sums are enough to compute the whole score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.cohort.time_grid import (
    HOUR,
    NEVER,
    TimeGrid,
    ceil_div,
    microseconds,
    row_offsets,
)
from flowsheet.typing import Bools, Floats, Ints


@dataclass(frozen=True)
class HourlyGrid(TimeGrid):
    """The grid whose rows are the hours of its stays."""

    died: Ints  # (S,) ``NEVER`` where no death is recorded
    arrived: Ints  # (S,) in the hospital; ``-NEVER`` where it is not recorded

    @classmethod
    def from_stays(cls, stays: pl.DataFrame) -> HourlyGrid:
        """The grid of these stays, in any order; a stay that ends before it begins has no hours."""
        stays = stays.sort("stay_id")
        admitted = microseconds(stays["admitted_at"])
        discharged = microseconds(stays["discharged_at"])
        arrived = microseconds(stays["hospital_admitted_at"])
        lengths = np.maximum(ceil_div(discharged - admitted, HOUR), 0)
        return cls(
            stay_id=stays["stay_id"].to_numpy(),
            admitted=admitted,
            discharged=discharged,
            offsets=row_offsets(lengths),
            died=microseconds(stays["died_at"]),
            arrived=np.where(arrived == NEVER, -NEVER, arrived),
        )

    @property
    def row_stay(self) -> Ints:
        """The position of each hour's stay, shape (N,)."""
        return self.per_row(np.arange(len(self.stay_id)))

    @property
    def hour(self) -> Ints:
        """The number h of each hour, shape (N,)."""
        return np.arange(self.rows) - self.per_row(self.offsets[:-1]) + 1

    @property
    def time(self) -> Ints:
        """The moment of each hour, shape (N,)."""
        return self.per_row(self.admitted) + self.hour * HOUR

    def stay_positions(self, rows: pl.DataFrame) -> Ints:
        """The position of each row's stay; -1 for a stay that the batch does not contain."""
        return self.positions(rows["stay_id"].to_numpy())

    def first_row(self, stay: Ints, time: Ints) -> Ints:
        """The row of the first hour at or after a time; ``offsets[stay + 1]`` if there is none."""
        hour = ceil_div(time - self.admitted[stay], HOUR)
        return np.asarray(self.offsets[stay] + np.clip(hour - 1, 0, self.lengths[stay]))

    def pairs(self, left: tuple[Ints, Ints, Ints], right: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
        """Positions of all pairs of one stay whose right time lies in the left's [low, high].

        ``left`` is (stay, low, high), ``right`` (stay, time), sorted by both; pairs come in the
        order of ``left``.
        """
        left_stay, low, high = left
        right_stay, right_time = right
        time = right_time - self.admitted[right_stay]
        start = low - self.admitted[left_stay]
        stop = high - self.admitted[left_stay]
        # One number line for all stays: every stay has a stretch wide enough for its times.
        widest = max(int(np.abs(times).max(initial=0)) for times in (time, start, stop))
        stretch = 2 * widest + 2
        line = right_stay * stretch + time
        first = np.searchsorted(line, left_stay * stretch + start, "left")
        behind = np.searchsorted(line, left_stay * stretch + stop, "right")
        matches = np.maximum(behind - first, 0)
        left_row = np.repeat(np.arange(len(matches)), matches)
        within = np.arange(len(left_row)) - (np.cumsum(matches) - matches)[left_row]
        return left_row, first[left_row] + within

    def total(self, stay: Ints, start: Ints, stop: Ints, weight: Floats | Ints) -> Floats:
        """The summed weights of the facts that are valid at each hour.

        Args:
            stay: The position of each fact's stay, shape (M,).
            start: When each fact becomes valid, in microseconds, shape (M,).
            stop: When it is no longer valid, in microseconds, shape (M,).
            weight: What each fact adds, shape (M,).

        Returns:
            Shape (N,).
        """
        low = self.first_row(stay, start)
        high = np.maximum(low, self.first_row(stay, stop))
        size = self.rows + 1
        edges = np.bincount(low, weight, size) - np.bincount(high, weight, size)
        return np.asarray(np.cumsum(edges)[:-1])

    def covered(self, stay: Ints, start: Ints, stop: Ints) -> Bools:
        """The hours at which any of the facts is valid, shape (N,)."""
        return self.cover(self.first_row(stay, start), self.first_row(stay, stop))


def forward_fill(values: Ints, known: Bools, offsets: Ints) -> tuple[Ints, Bools]:
    """The stay's last known value at each row, and whether there is one; 0 if there is none."""
    first_of_stay = np.repeat(offsets[:-1], np.diff(offsets))
    last = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
    has_value = last >= first_of_stay
    return np.where(has_value, values[last], 0), has_value
