"""The regular grid: which steps a stay has, when each one predicts, and in which cell a fact
becomes known.

Step k of a stay covers (t(k-1), t(k)] with t(k) = admitted_at + k * step, counted from 1. A stay
has ceil((discharged_at - admitted_at) / step) steps; its first row is the step that contains
``observed_from`` where the record begins after admission (k = floor((observed_from - admitted_at) /
step) + 1), and ``max_steps`` keeps that many rows. A stay without any row is left out.

The row of step k predicts at p(k): the end of the step, t(k), or with horizon 0 the cut-off inside
it, t(k-1) + cutoff. Its *cell* is (p(k-1), p(k)], so that no fact falls between two cut-offs; the
first row's cell reaches back without end, and takes what was known before the record begins. A fact
belongs to the cell of max(time, known_at): nobody could have used it earlier.

All arithmetic is in whole microseconds; no boundary depends on rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flowsheet.config import TaskConfig
from flowsheet.typing import Bools, Ints

HOUR = 3_600_000_000
"""Microseconds."""

NEVER = np.iinfo(np.int64).max // 4
"""A time after every other, in microseconds: the end of what has not ended."""

T = TypeVar("T", bound=np.generic)


def microseconds(column: pl.Series) -> Ints:
    """A datetime column as microseconds since 1970; null becomes ``NEVER``."""
    times = column.cast(pl.Datetime("us")).to_numpy()
    return np.where(np.isnat(times), NEVER, times.view(np.int64))


def by_stay(table: pl.DataFrame) -> pl.DataFrame:
    """The table's rows in the order of their stays."""
    return table if table["stay_id"].is_sorted() else table.sort("stay_id")


def _ceil_div(a: Ints, b: int) -> Ints:
    return -(-a // b)


@dataclass(frozen=True)
class Grid:
    """S stays, ascending by ``stay_id``, of together N rows; times in microseconds."""

    step: int
    shift: int
    """p(k) - t(k): 0, or cut-off - step where the prediction is made inside the step."""
    stay_id: Ints  # (S,)
    subject_id: Ints  # (S,)
    admitted: Ints  # (S,)
    begun: Ints  # (S,) when the record begins
    discharged: Ints  # (S,)
    first: Ints  # (S,) k of the first row
    offsets: Ints  # (S + 1,)

    @classmethod
    def of(cls, stays: pl.DataFrame, task: TaskConfig) -> Grid:
        """The grid of these stays, whatever their order.

        >>> from datetime import datetime, timedelta
        >>> from flowsheet.cohort.schema import empty
        >>> day = datetime(2000, 1, 1)
        >>> stay = {"stay_id": 7, "subject_id": 1, "admitted_at": day, "discharged_at": day + timedelta(hours=30)}
        >>> stays = pl.concat([empty("stays"), pl.DataFrame([stay])], how="diagonal")
        >>> Grid.of(stays, TaskConfig(name="next_day", step_hours=24)).steps
        array([1, 2])
        """
        stays = by_stay(stays)
        step = round(task.step_hours * HOUR)
        times = (
            microseconds(stays[name]) for name in ("admitted_at", "discharged_at", "observed_from")
        )
        admitted, discharged, observed = times
        begun = np.maximum(admitted, np.where(observed == NEVER, admitted, observed))
        first = (begun - admitted) // step + 1
        lengths = np.maximum(_ceil_div(discharged - admitted, step) - first + 1, 0)
        if task.max_steps is not None:
            lengths = np.minimum(lengths, task.max_steps)
        held = lengths > 0
        return cls(
            step=step,
            shift=0 if task.cutoff_hours is None else round(task.cutoff_hours * HOUR) - step,
            stay_id=stays["stay_id"].to_numpy()[held],
            subject_id=stays["subject_id"].to_numpy()[held],
            admitted=admitted[held],
            begun=begun[held],
            discharged=discharged[held],
            first=first[held],
            offsets=np.concatenate([[0], np.cumsum(lengths[held])]).astype(np.int64),
        )

    @property
    def rows(self) -> int:
        """N."""
        return int(self.offsets[-1])

    @property
    def lengths(self) -> Ints:
        """Rows of each stay, shape (S,)."""
        return np.diff(self.offsets)

    @property
    def steps(self) -> Ints:
        """k of each row, shape (N,)."""
        return np.repeat(self.first - self.offsets[:-1], self.lengths) + np.arange(self.rows)

    @property
    def predicted_at(self) -> Ints:
        """p(k) of each row, shape (N,)."""
        return self.per_row(self.admitted) + self.steps * self.step + self.shift

    def per_row(self, per_stay: NDArray[T]) -> NDArray[T]:
        """A value of each stay, repeated on its rows."""
        return np.repeat(per_stay, self.lengths)

    def positions(self, stay_id: Ints) -> Ints:
        """Where each stay stands in the grid; -1 where it has no row."""
        if len(self.stay_id) == 0:
            return np.full(len(stay_id), -1, np.int64)
        at = np.minimum(np.searchsorted(self.stay_id, stay_id), len(self.stay_id) - 1)
        return np.where(self.stay_id[at] == stay_id, at, -1)

    def cell(self, stay: Ints, time: Ints) -> Ints:
        """The first k with p(k) >= time, whether or not the stay (a position) has such a row."""
        return _ceil_div(time - self.admitted[stay] - self.shift, self.step)

    def step_of(self, stay: Ints, time: Ints) -> Ints:
        """The step k that contains the time, t(k-1) < time <= t(k)."""
        return _ceil_div(time - self.admitted[stay], self.step)

    def row(self, stay: Ints, k: Ints) -> Ints:
        """The row of step k: the stay's first row where k comes earlier, ``offsets[stay + 1]`` where it has ended."""
        start = self.offsets[stay]
        return np.asarray(start + np.clip(k - self.first[stay], 0, self.lengths[stay]))

    def cover(self, start: Ints, stop: Ints) -> Bools:
        """Which rows lie in any of the ranges [start, stop), shape (N,); an empty range covers nothing."""
        edges = np.zeros(self.rows + 1, np.int64)
        np.add.at(edges, start, 1)
        np.add.at(edges, np.maximum(start, stop), -1)
        return np.cumsum(edges[:-1]) > 0

    def parts(self, rows: int) -> Iterator[tuple[Grid, slice]]:
        """The grid in parts of whole stays with about that many rows, each with its place among the rows."""
        cuts = np.searchsorted(self.offsets, np.arange(0, self.rows, rows))
        cuts = np.unique(np.append(cuts, len(self.stay_id)))
        for low, high in pairwise(cuts.tolist()):
            yield self._part(low, high), slice(int(self.offsets[low]), int(self.offsets[high]))

    def _part(self, low: int, high: int) -> Grid:
        stays = slice(low, high)
        return Grid(
            step=self.step,
            shift=self.shift,
            stay_id=self.stay_id[stays],
            subject_id=self.subject_id[stays],
            admitted=self.admitted[stays],
            begun=self.begun[stays],
            discharged=self.discharged[stays],
            first=self.first[stays],
            offsets=self.offsets[low : high + 1] - self.offsets[low],
        )
