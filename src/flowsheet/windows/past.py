"""Columns about the past of the stay: statistics of windows, averages, changes, bounds.

A window of ``hours`` covers the cells of the last steps of the grid, as many as the hours need
(rounded up); without ``hours`` it covers all of them. As for the other columns, a value belongs to
the cell in which it becomes known.

``min``, ``max``, ``mean``, ``sd``, ``count``
    Of the values of the window; NaN (count: 0) without any. The standard deviation is that of the
    values themselves (divided by n): 0 for one value.
``slope``
    Change per hour of the least-squares line through the values of the window, by the times at
    which they were true; NaN unless they have two different times.
``average``
    Mean of all known values, in which a value that is ``half_life_hours`` older has half the
    weight; NaN before the first value, and once all weights are below 2^-1000.
``change``
    The last known value, as long as it is carried forward, less the first one: of the values of the
    first cell that has any, the one with the earliest time.
bounds
    Hours of the steps in the window at whose p(k) the last known value, as long as it is carried
    forward, was above (or below) the bound; NaN before the first value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import Tables
from flowsheet.cohort.time_grid import HOUR, ceil_div, from_hours
from flowsheet.config import Bound, FeaturesConfig, MovingAverage, PastWindow
from flowsheet.config.features import Statistic
from flowsheet.errors import UsageError, did_you_mean
from flowsheet.typing import Bools, Floats, Floats32, Ints
from flowsheet.windows.features import (
    CellEvents,
    LatestValues,
    carry_forward_limits,
    select_variables,
)
from flowsheet.windows.grid import Grid
from flowsheet.windows.running import add_so_far, add_window, pick_extreme
from flowsheet.windows.sequences import Feature, FeatureKind

_SMALLEST_WEIGHT = 2.0**-1000
_ROUNDING = 1e-12
"""Sums of squares are exact to about this share."""
_WORDS: dict[Statistic, str] = {
    "min": "lowest",
    "max": "highest",
    "mean": "mean",
    "sd": "standard deviation of",
    "count": "number of measurements of",
    "slope": "change per hour of",
}


class PastFeatures:
    """The columns of ``features.past``, except the derived numbers."""

    def __init__(self, config: FeaturesConfig, variables: Sequence[str]) -> None:
        available = select_variables(config, variables)
        past = config.past
        _check_bounds(past.bounds)
        self.parts: list[_Part] = [
            _Statistics(window, select_variables(window, available)) for window in past.windows
        ]
        self.parts += [
            _Average(average, select_variables(average, available)) for average in past.averages
        ]
        if past.changes is not None:
            self.parts.append(_Change(select_variables(past.changes, available)))
        self.parts += [_Hours(bound) for bound in past.bounds if bound.variable in available]
        used = {name for part in self.parts for name in part.variables}
        self.variables = tuple(name for name in available if name in used)
        self.limit = carry_forward_limits(config, self.variables)
        self.features = tuple(feature for part in self.parts for feature in part.features)
        _check_names([feature.name for feature in self.features])

    def fill(self, x: Floats32, grid: Grid, tables: Tables) -> None:
        """Write the columns of ``features``."""
        if not self.features:
            return
        past = _Past(grid, CellEvents(grid, tables.events, self.variables), self)
        first = 0
        for part in self.parts:
            last = first + len(part.features)
            x[:, first:last] = part.compute(past)
            first = last


def _check_bounds(bounds: Sequence[Bound]) -> None:
    """A bound of a variable that the extract lacks is left out; one of no variable is an error."""
    for bound in bounds:
        if bound.variable not in catalogue.variables():
            raise UsageError(
                f"the features have a bound of the variable {bound.variable!r}, "
                "which does not exist",
                where="features.past.bounds",
                todo=did_you_mean(bound.variable, catalogue.variables()),
            )


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"the features have the column {name!r} twice",
                where="features.past",
                todo="name each statistic of a variable and a window once",
            )


class _Past:
    """What the columns are computed from: the cells of W variables on the N rows of a grid."""

    def __init__(self, grid: Grid, events: CellEvents, block: PastFeatures) -> None:
        self.grid, self.events, self.block = grid, events, block
        self.width = len(block.variables)
        self.cell = events.row * self.width + events.column
        self.value = events.value + 0.0  # not -0.0
        self.hours: Floats = (events.time - grid.admitted[events.stay]) / HOUR
        self.rows_before = np.arange(grid.rows) - grid.per_row(grid.offsets[:-1])
        self._sums: dict[str, Floats] = {}

    def columns(self, variables: Sequence[str]) -> Ints:
        """Positions of the variables."""
        return np.array([self.block.variables.index(name) for name in variables], np.int64)

    def count_steps(self, hours: float) -> int:
        """The steps of a window, rounded up."""
        return int(ceil_div(np.array([from_hours(hours)]), self.grid.step)[0])

    def sum_cells(self, weights: Floats | None = None) -> Floats:
        """The sum of the weights of the events of each cell (None: 1 each), shape (N, W)."""
        size = self.grid.rows * self.width
        sums = np.bincount(self.cell, weights=weights, minlength=size)
        return sums.astype(np.float64).reshape(-1, self.width)

    def sum_terms(self, term: str) -> Floats:
        """Sums of a product of values and times, such as "time value", of each cell (N, W)."""
        if term not in self._sums:
            factors = [{"value": self.value, "time": self.hours}[name] for name in term.split()]
            self._sums[term] = self.sum_cells(np.prod(factors, axis=0) if factors else None)
        return self._sums[term]

    def pick(self, pick: np.ufunc) -> Floats:
        """The lowest or highest value of each cell; NaN without any, shape (N, W)."""
        result = np.full(self.grid.rows * self.width, np.nan)
        pick.at(result, self.cell, self.value)
        return result.reshape(-1, self.width)

    @cached_property
    def lowest(self) -> Floats:
        """Of each cell."""
        return self.pick(np.fmin)

    @cached_property
    def highest(self) -> Floats:
        """Of each cell."""
        return self.pick(np.fmax)

    @cached_property
    def latest(self) -> Floats32:
        """The last known values, as long as they are carried forward, shape (N, W)."""
        return self._latest.valid_values(self.block.limit)

    @cached_property
    def is_measured(self) -> Bools:
        """Whether any value has been known so far, shape (N, W)."""
        return np.asarray(self._latest.filled >= 0)

    @cached_property
    def _latest(self) -> LatestValues:
        return LatestValues(self.grid, self.events, self.width)


class _Part(Protocol):
    """Columns of one kind."""

    variables: tuple[str, ...]
    features: tuple[Feature, ...]

    def compute(self, past: _Past) -> Floats:
        """The columns, shape (N, len(features))."""


class _Statistics:
    """Statistics of the values of a window."""

    def __init__(self, window: PastWindow, variables: tuple[str, ...]) -> None:
        self.hours, self.statistics, self.variables = window.hours, window.statistics, variables
        kind: FeatureKind = "so_far" if window.hours is None else "window"
        self.features = tuple(
            Feature(
                f"{name}_{statistic}_{_suffix(window.hours)}",
                kind,
                name,
                f"{_WORDS[statistic]} {_label(name)} {_period(window.hours)}",
            )
            for statistic in window.statistics
            for name in variables
        )

    def compute(self, past: _Past) -> Floats:
        """Each statistic of all variables."""
        values = _WindowValues(past, past.columns(self.variables), self.hours)
        parts = [values.compute(statistic) for statistic in self.statistics]
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class _WindowValues:
    """The values of some columns in the window of each row."""

    past: _Past
    columns: Ints
    hours: float | None

    def compute(self, statistic: Statistic) -> Floats:
        """A statistic, shape (N, len(columns))."""
        if statistic == "count":
            return self._total("")
        if statistic == "min":
            return self._extreme(self.past.lowest, np.fmin)
        if statistic == "max":
            return self._extreme(self.past.highest, np.fmax)
        if statistic == "mean":
            return self._mean("value")
        return self._deviation() if statistic == "sd" else self._slope()

    def _mean(self, term: str) -> Floats:
        count = self._total("")
        return _divide(self._total(term), count, count > 0)

    def _deviation(self) -> Floats:
        mean, mean_square = self._mean("value"), self._mean("value value")
        variance = mean_square - mean**2
        return np.sqrt(np.where(variance < _ROUNDING * mean_square, 0.0, variance))

    def _slope(self) -> Floats:
        n, time, value = self._total(""), self._total("time"), self._total("value")
        time_square = self._total("time time")
        spread = n * time_square - time**2
        product = n * self._total("time value") - time * value
        return _divide(product, spread, spread > _ROUNDING * n * time_square)

    def _total(self, term: str) -> Floats:
        cells = self.past.sum_terms(term)[:, self.columns]
        rows_before = self.past.rows_before
        if self.hours is None:
            return np.asarray(add_so_far(cells, rows_before), np.float64)
        window = self.past.count_steps(self.hours)
        return np.asarray(add_window(cells, window, rows_before), np.float64)

    def _extreme(self, cells: Floats, pick: np.ufunc) -> Floats:
        rows_before = self.past.rows_before
        window = int(rows_before.max(initial=0)) + 1
        if self.hours is not None:
            window = min(window, self.past.count_steps(self.hours))
        extreme = pick_extreme(cells[:, self.columns], window, rows_before, pick)
        return np.asarray(extreme, np.float64)


class _Average:
    """Exponentially weighted means."""

    def __init__(self, average: MovingAverage, variables: tuple[str, ...]) -> None:
        self.half_life, self.variables = average.half_life_hours, variables
        hours = f"{self.half_life:g}"
        words = f"with a half-life of {hours} h"
        self.features = tuple(
            Feature(f"{name}_average_{hours}h", "average", name, f"mean {_label(name)} {words}")
            for name in variables
        )

    def compute(self, past: _Past) -> Floats:
        """The weighted sum of the values over the sum of the weights."""
        events, grid = past.events, past.grid
        age = (grid.predicted_at[events.row] - events.time) / HOUR
        weight = np.exp2(-age / self.half_life)
        decay = float(np.exp2(-grid.step / HOUR / self.half_life))
        columns = past.columns(self.variables)

        def add(weights: Floats) -> Floats:
            cells = past.sum_cells(weights)[:, columns]
            return np.asarray(add_so_far(cells, past.rows_before, decay), np.float64)

        total = add(weight)
        return _divide(add(weight * past.value), total, total > _SMALLEST_WEIGHT)


class _Change:
    """Changes since the first known value."""

    def __init__(self, variables: tuple[str, ...]) -> None:
        self.variables = variables
        self.features = tuple(
            Feature(f"{name}_change", "change", name, f"change of {_label(name)} since admission")
            for name in variables
        )

    def compute(self, past: _Past) -> Floats:
        """The last value less the first one; the rows before that have no last value."""
        grid, columns = past.grid, past.columns(self.variables)
        first_in_cell = np.full(grid.rows * past.width, np.nan)
        # events are sorted by time: of those of a cell the first one is assigned last
        first_in_cell[past.cell[::-1]] = past.value[::-1]
        cells = first_in_cell.reshape(-1, past.width)[:, columns]
        row = np.where(np.isnan(cells), grid.rows, np.arange(grid.rows)[:, None])
        first_row = np.minimum.reduceat(row, grid.offsets[:-1], axis=0)
        cells = np.concatenate([cells, np.full((1, len(columns)), np.nan)])
        baseline = np.take_along_axis(cells, first_row, axis=0)
        latest = past.latest[:, columns]
        change = latest - np.repeat(baseline, grid.lengths, axis=0)
        return np.where(np.isnan(latest), np.nan, change)


class _Hours:
    """Hours beyond a bound."""

    def __init__(self, bound: Bound) -> None:
        variable, hours = bound.variable, bound.hours
        self.bound = bound
        self.variables: tuple[str, ...] = (variable,)
        side = "above" if bound.above is not None else "below"
        limit = f"{bound.above if bound.above is not None else bound.below:g}"
        name = f"{variable}_{side}_{limit}_{_suffix(hours)}"
        label = f"hours with {_label(variable)} {side} {limit} {_period(hours)}"
        self.features: tuple[Feature, ...] = (Feature(name, "bound", variable, label),)

    def compute(self, past: _Past) -> Floats:
        """Steps beyond the bound, in hours."""
        columns = past.columns(self.variables)
        latest = past.latest[:, columns]
        hours = self.bound.hours
        lowest = np.inf if self.bound.above is None else self.bound.above
        highest = -np.inf if self.bound.below is None else self.bound.below
        steps = ((latest > lowest) | (latest < highest)).astype(np.float64)
        if hours is None:
            total = add_so_far(steps, past.rows_before)
        else:
            total = add_window(steps, past.count_steps(hours), past.rows_before)
        return np.where(past.is_measured[:, columns], total * (past.grid.step / HOUR), np.nan)


def _divide(a: Floats, b: Floats, is_known: Bools) -> Floats:
    """The quotient; NaN where it is not known."""
    return np.divide(a, b, out=np.full_like(b, np.nan), where=is_known)


def _label(variable: str) -> str:
    known = catalogue.variables().get(variable)
    return known.label if known else variable


def _suffix(hours: float | None) -> str:
    return "so_far" if hours is None else f"{hours:g}h"


def _period(hours: float | None) -> str:
    return "since admission" if hours is None else f"of the last {hours:g} h"
