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

import numpy as np
import polars as pl

from flowsheet.cohort.time_grid import (
    HOUR,
    NEVER,
    TimeGrid,
    ceil_div,
    from_hours,
    microseconds,
    row_offsets,
)
from flowsheet.config import TaskConfig
from flowsheet.typing import Ints

__all__ = ["HOUR", "NEVER", "Grid", "by_stay", "microseconds"]


def by_stay(table: pl.DataFrame) -> pl.DataFrame:
    """The table's rows in the order of their stays."""
    return table if table["stay_id"].is_sorted() else table.sort("stay_id")


@dataclass(frozen=True)
class Grid(TimeGrid):
    """The grid whose rows are the steps of its stays; a stay without any row is left out."""

    subject_id: Ints  # (S,)
    begun: Ints  # (S,) when the record begins
    first: Ints  # (S,) k of the first row
    step: int
    shift: int
    """p(k) - t(k): 0, or cut-off - step where the prediction is made inside the step."""

    @classmethod
    def from_stays(cls, stays: pl.DataFrame, task: TaskConfig) -> Grid:
        """The grid of these stays, whatever their order.

        >>> from datetime import datetime, timedelta
        >>> from flowsheet.cohort.schema import empty_table
        >>> day = datetime(2000, 1, 1)
        >>> stay = {"stay_id": 7, "subject_id": 1, "admitted_at": day, "discharged_at": day + timedelta(hours=30)}
        >>> stays = pl.concat([empty_table("stays"), pl.DataFrame([stay])], how="diagonal")
        >>> Grid.from_stays(stays, TaskConfig(name="next_day", step_hours=24)).steps
        array([1, 2])
        """
        stays = by_stay(stays)
        step = from_hours(task.step_hours)
        times = (
            microseconds(stays[name]) for name in ("admitted_at", "discharged_at", "observed_from")
        )
        admitted, discharged, observed = times
        begun = np.maximum(admitted, np.where(observed == NEVER, admitted, observed))
        first = (begun - admitted) // step + 1
        lengths = np.maximum(ceil_div(discharged - admitted, step) - first + 1, 0)
        if task.max_steps is not None:
            lengths = np.minimum(lengths, task.max_steps)
        held = lengths > 0
        return cls(
            step=step,
            shift=0 if task.cutoff_hours is None else from_hours(task.cutoff_hours) - step,
            stay_id=stays["stay_id"].to_numpy()[held],
            subject_id=stays["subject_id"].to_numpy()[held],
            admitted=admitted[held],
            begun=begun[held],
            discharged=discharged[held],
            first=first[held],
            offsets=row_offsets(lengths[held]),
        )

    @property
    def steps(self) -> Ints:
        """k of each row, shape (N,)."""
        return np.repeat(self.first - self.offsets[:-1], self.lengths) + np.arange(self.rows)

    @property
    def predicted_at(self) -> Ints:
        """p(k) of each row, shape (N,)."""
        return self.per_row(self.admitted) + self.steps * self.step + self.shift

    def cell(self, stay: Ints, time: Ints) -> Ints:
        """The first k with p(k) >= time, whether or not the stay (a position) has such a row."""
        return ceil_div(time - self.admitted[stay] - self.shift, self.step)

    def step_of(self, stay: Ints, time: Ints) -> Ints:
        """The step k that contains the time, t(k-1) < time <= t(k)."""
        return ceil_div(time - self.admitted[stay], self.step)

    def row(self, stay: Ints, k: Ints) -> Ints:
        """The row of step k: the stay's first row where k comes earlier, ``offsets[stay + 1]`` where it has ended."""
        start = self.offsets[stay]
        return np.asarray(start + np.clip(k - self.first[stay], 0, self.lengths[stay]))

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
