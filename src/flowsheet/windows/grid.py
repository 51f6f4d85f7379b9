"""The regular grid: the steps of each stay, their prediction times, and the cells of events.

Step k of a stay covers (t(k-1), t(k)] with t(k) = admitted_at + k * step, counted from 1. A stay
has ceil((discharged_at - admitted_at) / step) steps. Its first row is step 1, or the step that
contains ``observed_from`` where the record starts after admission (k = floor((observed_from -
admitted_at) / step) + 1). ``max_steps`` keeps that many rows, ``at_hours`` those until its
question. A stay without any row is left out.

The row of step k predicts at p(k): the end of the step, t(k), or with horizon 0 the cut-off inside
it, t(k-1) + cutoff. The *cell* of the row is (p(k-1), p(k)], so that no time between two cut-offs
is lost; the cell of the first row has no lower limit, and includes what was known before the record
starts. An event belongs to the cell of max(time, known_at), the earliest one that could use it.

Predictions are asked for until the end of the stay: discharge or, if earlier, death; with the
task's ``end_at: comfort_measures`` also until care is limited to them. Rows exist until discharge,
so that neither the rows nor their inputs depend on what is only known afterwards.

All arithmetic is in whole microseconds; no boundary depends on rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from flowsheet.cohort.time_grid import (
    NEVER,
    TimeGrid,
    ceil_div,
    from_hours,
    microseconds,
    row_offsets,
)
from flowsheet.config import EndAt, TaskConfig
from flowsheet.typing import Ints


def sort_by_stay(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of the table in the order of their stays."""
    return table if table["stay_id"].is_sorted() else table.sort("stay_id")


@dataclass(frozen=True)
class Grid(TimeGrid):
    """The grid whose rows are the steps of its stays; a stay without any row is left out."""

    subject_id: Ints  # (S,)
    record_start: Ints  # (S,)
    ended: Ints  # (S,) discharge or, if earlier, death
    comfort_measures: Ints  # (S,) NEVER where they do not end the questions of the task
    first: Ints  # (S,) k of the first row
    step: int
    shift: int
    """p(k) - t(k): 0, or cut-off - step where the prediction is made inside the step."""

    @classmethod
    def from_stays(cls, stays: pl.DataFrame, task: TaskConfig) -> Grid:
        """The grid of these stays, which may be in any order.

        >>> from datetime import datetime
        >>> from flowsheet.cohort.schema import empty_table
        >>> stay = pl.DataFrame({
        ...     "stay_id": 7,
        ...     "subject_id": 1,
        ...     "admitted_at": datetime(2000, 1, 1),
        ...     "discharged_at": datetime(2000, 1, 2, 6),
        ... })
        >>> stays = pl.concat([empty_table("stays"), stay], how="diagonal")
        >>> Grid.from_stays(stays, TaskConfig(name="next_day", step_hours=24)).steps
        array([1, 2])
        """
        stays = sort_by_stay(stays)
        step = from_hours(task.step_hours)
        admitted = microseconds(stays["admitted_at"])
        discharged = microseconds(stays["discharged_at"])
        observed = microseconds(stays["observed_from"])
        record_start = np.maximum(admitted, np.where(observed == NEVER, admitted, observed))
        comfort_measures = microseconds(stays["comfort_measures_at"])
        if task.end_at is not EndAt.comfort_measures:
            comfort_measures = np.full_like(comfort_measures, NEVER)
        first = (record_start - admitted) // step + 1
        lengths = np.maximum(ceil_div(discharged - admitted, step) - first + 1, 0)
        if task.max_steps is not None:
            lengths = np.minimum(lengths, task.max_steps)
        if task.at_hours is not None:
            last = round(task.at_hours / task.step_hours)
            lengths = np.minimum(lengths, np.maximum(last - first + 1, 0))
        has_rows = lengths > 0
        return cls(
            step=step,
            shift=0 if task.cutoff_hours is None else from_hours(task.cutoff_hours) - step,
            stay_id=stays["stay_id"].to_numpy()[has_rows],
            subject_id=stays["subject_id"].to_numpy()[has_rows],
            admitted=admitted[has_rows],
            record_start=record_start[has_rows],
            discharged=discharged[has_rows],
            ended=np.minimum(discharged, microseconds(stays["died_at"]))[has_rows],
            comfort_measures=comfort_measures[has_rows],
            first=first[has_rows],
            offsets=row_offsets(lengths[has_rows]),
        )

    @property
    def steps(self) -> Ints:
        """k of each row, shape (N,)."""
        return np.repeat(self.first - self.offsets[:-1], self.lengths) + np.arange(self.rows)

    @property
    def predicted_at(self) -> Ints:
        """p(k) of each row, shape (N,)."""
        return self.per_row(self.admitted) + self.steps * self.step + self.shift

    def window_end(self, horizon: int) -> Ints:
        """t(k + horizon) of each row, shape (N,): the end of its target window."""
        return self.per_row(self.admitted) + (self.steps + horizon) * self.step

    def cell(self, stay: Ints, time: Ints) -> Ints:
        """The first k with p(k) >= time; the stay, given by its position, may have no such row."""
        return ceil_div(time - self.admitted[stay] - self.shift, self.step)

    def step_of(self, stay: Ints, time: Ints) -> Ints:
        """The step k that contains the time, t(k-1) < time <= t(k)."""
        return ceil_div(time - self.admitted[stay], self.step)

    def row(self, stay: Ints, k: Ints) -> Ints:
        """The row of step k; the first row of the stay where k is earlier.

        Where k is after the last row, the result is the row after it, ``offsets[stay + 1]``.
        """
        start = self.offsets[stay]
        return np.asarray(start + np.clip(k - self.first[stay], 0, self.lengths[stay]))

    def split(self, rows: int) -> Iterator[tuple[Grid, slice]]:
        """Parts of whole stays with about that many rows, each with its slice of the N rows."""
        cuts = np.searchsorted(self.offsets, np.arange(0, self.rows, rows))
        cuts = np.unique(np.append(cuts, len(self.stay_id)))
        for low, high in pairwise(cuts.tolist()):
            rows_of_part = slice(int(self.offsets[low]), int(self.offsets[high]))
            yield self._select(low, high), rows_of_part

    def _select(self, low: int, high: int) -> Grid:
        """The grid of the stays [low, high)."""
        stays = slice(low, high)
        return Grid(
            step=self.step,
            shift=self.shift,
            stay_id=self.stay_id[stays],
            subject_id=self.subject_id[stays],
            admitted=self.admitted[stays],
            record_start=self.record_start[stays],
            discharged=self.discharged[stays],
            ended=self.ended[stays],
            comfort_measures=self.comfort_measures[stays],
            first=self.first[stays],
            offsets=self.offsets[low : high + 1] - self.offsets[low],
        )
