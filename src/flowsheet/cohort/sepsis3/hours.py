"""The hourly grid of a batch, and facts as stretches of hours on it.

Hour h of a stay is the moment admission + h hours; h runs from 1 to the first at or after
discharge. All of a batch's hours lie flat behind each other; ``row`` says where. A fact that is
valid from one moment until before another covers the hours whose moment lies between; this one
operation, and cumulative sums, make the whole score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.typing import Bools, Floats, Ints

HOUR = 3_600_000_000
"""Microseconds."""


def microseconds(column: pl.Series) -> Ints:
    """A datetime column without nulls as microseconds since 1970."""
    return column.cast(pl.Datetime("us")).to_physical().to_numpy()


def length(hours: float) -> int:
    """Hours as whole microseconds."""
    return round(hours * HOUR)


@dataclass(frozen=True)
class Hours:
    """S stays, ascending by ``stay_id``, of together N hours; times in microseconds."""

    stay_id: Ints  # (S,)
    admitted: Ints  # (S,)
    discharged: Ints  # (S,)
    offsets: Ints  # (S + 1,)

    @classmethod
    def of(cls, stays: pl.DataFrame) -> Hours:
        """The grid of these stays, whatever their order; a stay that ends before it begins has no hours."""
        stays = stays.sort("stay_id")
        admitted, discharged = (
            microseconds(stays["admitted_at"]),
            microseconds(stays["discharged_at"]),
        )
        lengths = np.maximum(-((admitted - discharged) // HOUR), 0)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(stays["stay_id"].to_numpy(), admitted, discharged, offsets)

    @property
    def rows(self) -> int:
        """N."""
        return int(self.offsets[-1])

    @property
    def lengths(self) -> Ints:
        """Hours of each stay, shape (S,)."""
        return np.diff(self.offsets)

    @property
    def row_stay(self) -> Ints:
        """The position of each hour's stay, shape (N,)."""
        return np.repeat(np.arange(len(self.stay_id)), self.lengths)

    @property
    def hour(self) -> Ints:
        """h of each hour, shape (N,)."""
        return np.arange(self.rows) - np.repeat(self.offsets[:-1], self.lengths) + 1

    @property
    def time(self) -> Ints:
        """The moment of each hour, shape (N,)."""
        return np.repeat(self.admitted, self.lengths) + self.hour * HOUR

    def positions(self, stay_id: pl.Series) -> Ints:
        """Where each stay stands; -1 where the batch has it not."""
        wanted = stay_id.to_numpy()
        if len(self.stay_id) == 0:
            return np.full(len(wanted), -1, np.int64)
        at = np.minimum(np.searchsorted(self.stay_id, wanted), len(self.stay_id) - 1)
        return np.where(self.stay_id[at] == wanted, at, -1)

    def first(self, stay: Ints, time: Ints) -> Ints:
        """The row of the first hour at or after the time; one behind the stay's last where there is none."""
        hour = -((self.admitted[stay] - time) // HOUR)
        return np.asarray(self.offsets[stay] + np.clip(hour - 1, 0, self.lengths[stay]))

    def pairs(self, left: tuple[Ints, Ints, Ints], right: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
        """Positions of all pairs of one stay whose right time lies in the left's [low, high].

        ``left`` is (stay, low, high), ``right`` (stay, time), sorted by both; pairs come in the
        left's order.
        """
        stay, low, high = left
        other, time = right
        since = time - self.admitted[other]
        start, stop = low - self.admitted[stay], high - self.admitted[stay]
        widest = max(int(np.abs(times).max(initial=0)) for times in (since, start, stop))
        line = other * (2 * widest + 2) + since
        first = np.searchsorted(line, stay * (2 * widest + 2) + start, "left")
        n = np.maximum(np.searchsorted(line, stay * (2 * widest + 2) + stop, "right") - first, 0)
        of = np.repeat(np.arange(len(n)), n)
        return of, first[of] + np.arange(len(of)) - (np.cumsum(n) - n)[of]

    def total(self, stay: Ints, start: Ints, stop: Ints, weight: Floats | Ints) -> Floats:
        """The summed weights of the facts valid at each hour, start <= moment < stop, shape (N,)."""
        low = self.first(stay, start)
        high = np.maximum(low, self.first(stay, stop))
        size = self.rows + 1
        edges = np.bincount(low, weight, size) - np.bincount(high, weight, size)
        return np.asarray(np.cumsum(edges)[:-1])

    def covered(self, stay: Ints, start: Ints, stop: Ints) -> Bools:
        """The hours at which any of the facts is valid, shape (N,)."""
        return np.asarray(self.total(stay, start, stop, np.ones(len(stay))) > 0.5)


def held(values: Ints, known: Bools, offsets: Ints) -> tuple[Ints, Bools]:
    """The last known value at each row of its stay, and whether there is one; 0 where there is none."""
    start = np.repeat(offsets[:-1], np.diff(offsets))
    last = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
    begun = last >= start
    return np.where(begun, values[last], 0), begun
