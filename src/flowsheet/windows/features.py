"""The input columns of a model, and how charted events fill them.

The columns are determined by the configuration and by three lists that are stored with the extract
or with the saved model: variables, drugs and the vocabulary of categories. They do not depend on
the values in the data.

An event belongs to the cell (see :mod:`flowsheet.windows.grid`) in which it becomes known.

``last``
    The value with the latest ``time`` among the known ones; of several with the same time the one
    that became known last. It is carried forward for ``carry_forward_hours`` from its ``time``, and
    at least to the end of the cell in which it was true.
``mean``, ``min``, ``max``, ``count``
    Of the values that arrive in the cell; NaN (count: 0) where none does.
``missing``
    1 when no value arrives in the cell.
``since``
    Hours from the ``time`` of the latest known value to p(k), without a limit; NaN before the first
    value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, get_args

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import Tables
from flowsheet.cohort.time_grid import HOUR, microseconds
from flowsheet.config import Aggregation, FeaturesConfig, VariableSelection
from flowsheet.errors import UsageError, did_you_mean
from flowsheet.typing import Floats, Floats32, Ints
from flowsheet.windows.forward_fill import age_in_hours, compute_age, forward_fill, rank_arrivals
from flowsheet.windows.grid import Grid
from flowsheet.windows.sequences import Feature


def select_names(
    kind: str, selection: str | tuple[str, ...], available: Sequence[str]
) -> tuple[str, ...]:
    """The names that the configuration selects: "all", "none" or a list of available names.

    Raises:
        UsageError: a name is not available, or is listed twice.
    """
    if isinstance(selection, str):
        return tuple(available) if selection == "all" else ()
    if len(set(selection)) < len(selection):
        raise UsageError(
            f"the features list a {kind} twice: {', '.join(selection)}",
            todo="list each name once",
        )
    for name in selection:
        if name not in available:
            raise UsageError(
                f"the features list the {kind} {name!r}, which does not exist",
                todo=did_you_mean(name, available),
            )
    return selection


class FeatureBlock(Protocol):
    """Neighbouring columns that are filled together."""

    features: tuple[Feature, ...]

    def fill(self, x: Floats32, grid: Grid, tables: Tables) -> None:
        """Write every element of x, shape (N, len(features)), from the tables of the stays."""


class CellEvents:
    """M events, each in a row and column; sorted by stay, then time, known_at and value."""

    def __init__(self, grid: Grid, events: pl.DataFrame, variables: Sequence[str]) -> None:
        """Ignore events of other stays or variables, without a value, or after the last row."""
        variable = pl.col("variable").cast(pl.Enum(variables), strict=False)
        code = variable.to_physical().cast(pl.Int64).alias("code")
        rows = (
            events.select("stay_id", "time", "known_at", code, "value")
            .drop_nulls()
            .filter(pl.col("value").is_not_nan())
            .sort("stay_id", "time", "known_at", "code", "value")
        )
        stay = grid.positions(rows["stay_id"].to_numpy())
        time = microseconds(rows["time"])
        available_at = np.maximum(time, microseconds(rows["known_at"]))
        row = grid.row(stay, grid.cell(stay, available_at))
        in_grid = (stay >= 0) & (row < grid.offsets[stay + 1])
        self.stay = stay[in_grid]
        self.row = row[in_grid]
        self.time = time[in_grid]
        self.column: Ints = rows["code"].to_numpy()[in_grid]
        self.value: Floats = rows["value"].to_numpy()[in_grid]


class LatestValues:
    """The latest known event of each variable at every row, and its age."""

    def __init__(self, grid: Grid, events: CellEvents, width: int) -> None:
        self.arrivals = rank_arrivals(grid, events.row, events.column, width)
        self.filled = forward_fill(grid, self.arrivals, events.stay)
        self.age = compute_age(grid, self.filled, events.time)
        self._value = np.append(events.value, np.nan).astype(np.float32)
        self._step = grid.step

    def valid_values(self, limit: Ints) -> Floats32:
        """The values, as long as they are carried forward: ``limit`` microseconds (width,)."""
        values = self._value[self.filled]
        values[self.age > np.maximum(limit, self._step - 1)] = np.nan
        return values


class VariableFeatures:
    """Charted variables: aggregations, missing indicators, hours since measured."""

    def __init__(self, config: FeaturesConfig, variables: Sequence[str]) -> None:
        self.variables = select_variables(config, variables)
        select_names("variable", tuple(config.carry_forward_by_variable), variables)
        select_names("aggregation", config.aggregations, get_args(Aggregation))
        self.config = config
        self.limit = carry_forward_limits(config, self.variables)
        features = [
            Feature(f"{name}_{how}", "value", name)
            for how in config.aggregations
            for name in self.variables
        ]
        if config.missing_indicators:
            features += [Feature(f"{name}_missing", "missing", name) for name in self.variables]
        if config.hours_since_measured:
            features += [Feature(f"{name}_since", "since", name) for name in self.variables]
        self.features = tuple(features)

    def fill(self, x: Floats32, grid: Grid, tables: Tables) -> None:
        """Write the columns of ``features``."""
        width = len(self.variables)
        if not width:
            return
        events = CellEvents(grid, tables.events, self.variables)
        latest = LatestValues(grid, events, width)
        columns = iter(np.split(x, len(self.features) // width, axis=1))
        cells = _CellAggregates(grid, events, width)
        for how in self.config.aggregations:
            is_last = how == "last"
            next(columns)[:] = latest.valid_values(self.limit) if is_last else cells.aggregate(how)
        if self.config.missing_indicators:
            next(columns)[:] = latest.arrivals < 0
        if self.config.hours_since_measured:
            next(columns)[:] = age_in_hours(latest.age, latest.filled)


def carry_forward_limits(config: FeaturesConfig, variables: Sequence[str]) -> Ints:
    """How long the values of these variables stay valid, in microseconds."""
    hours = [config.carry_forward_by_variable.get(v, config.carry_forward_hours) for v in variables]
    return np.array([round(limit * HOUR) for limit in hours], np.int64)


def select_variables(config: VariableSelection, variables: Sequence[str]) -> tuple[str, ...]:
    """The variables that the configuration selects, of the kinds that it selects.

    Raises:
        UsageError: a variable or kind does not exist, or is listed twice.
    """
    kind_of_variable = {known.name: known.kind for known in catalogue.variables().values()}
    all_kinds = sorted(set(kind_of_variable.values()))
    kinds = select_names("kind of variables", config.variable_kinds, all_kinds)
    selected = select_names("variable", config.variables, variables)
    if config.variable_kinds == "all":
        return selected
    others = [name for name in selected if kind_of_variable.get(name) not in kinds]
    if others and config.variables != "all":
        raise UsageError(
            f"the features list the variable {others[0]!r}, which is not of the kinds "
            f"{', '.join(kinds)}",
            todo="remove the variable from variables, or add its kind to variable_kinds",
        )
    return tuple(name for name in selected if name not in others)


class _CellAggregates:
    """Aggregates of the values that arrive in each cell."""

    def __init__(self, grid: Grid, events: CellEvents, width: int) -> None:
        self.shape = (grid.rows, width)
        self.cell = events.row * width + events.column
        self.value = events.value

    def aggregate(self, how: str) -> Floats:
        """``count``, ``mean``, ``min`` or ``max``, shape (N, width)."""
        size = self.shape[0] * self.shape[1]
        if how == "count":
            result = np.bincount(self.cell, minlength=size).astype(np.float64)
        elif how == "mean":
            count = np.bincount(self.cell, minlength=size)
            total = np.bincount(self.cell, weights=self.value, minlength=size)
            result = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
        else:
            result = np.full(size, np.nan)
            smaller_or_larger = np.fmin if how == "min" else np.fmax
            smaller_or_larger.at(result, self.cell, self.value)
        return result.reshape(self.shape)
