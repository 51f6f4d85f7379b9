"""Which columns a model sees, and how charted events and statics fill them.

The columns follow from the configuration and from three lists that are kept beside the extract or the saved
model: variables, drugs and the vocabulary of categories. What the data at hand happens to hold never matters.

An event belongs to the cell (see :mod:`flowsheet.windows.grid`) in which it becomes known.

``last``
    the value with the latest ``time`` among those known; of two with one time the one known later. A value holds
    for ``carry_forward_hours`` from its ``time`` to p(k), and at least through the cell in which it was true.
``mean``, ``min``, ``max``, ``count``
    of the values that arrive in the cell; NaN (count: 0) where none does.
``missing``
    1 when no value arrives in the cell.
``since``
    hours from the ``time`` of the latest known value to p(k), uncapped; NaN when there never was one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flowsheet.cohort.schema import Tables
from flowsheet.config import FeaturesConfig
from flowsheet.errors import UsageError, did_you_mean
from flowsheet.windows import carry
from flowsheet.windows.grid import HOUR, Grid, Ints, microseconds
from flowsheet.windows.sequences import Feature

Vocabulary = Mapping[str, Sequence[str]]
"""Categories of each categorical column of the stays, in the order of their one-hot features."""

CATEGORICAL = ("site", "sex", "unit", "admission_type")
NUMERIC = ("age", "height_cm", "weight_kg")


def collect_vocabulary(tables: Tables) -> dict[str, list[str]]:
    """The categories that these stays hold, sorted; to be kept with the extract and the model."""
    return {name: sorted(tables.stays[name].drop_nulls().unique().to_list()) for name in CATEGORICAL}


def chosen(kind: str, wanted: str | tuple[str, ...], held: Sequence[str]) -> tuple[str, ...]:
    """The names that the configuration wants: "all", "none" or a list, out of those there are.

    Raises:
        UsageError: a name is not among them.
    """
    if isinstance(wanted, str):
        return tuple(held) if wanted == "all" else ()
    for name in wanted:
        if name not in held:
            raise UsageError(
                f"the features want the {kind} {name!r}, which there is not", todo=did_you_mean(name, held)
            )
    return wanted


class Block(Protocol):
    """Neighbouring columns that are filled together."""

    features: tuple[Feature, ...]

    def fill(self, x: NDArray[np.float32], grid: Grid, tables: Tables) -> None:
        """Write every element of x, shape (N, len(features)), from the facts of the grid's stays."""


class Facts:
    """M values in cells, ascending by stay, then time, known_at and value."""

    def __init__(self, grid: Grid, events: pl.DataFrame, variables: Sequence[str]) -> None:
        code = pl.col("variable").cast(pl.Enum(variables), strict=False).to_physical().cast(pl.Int64)
        rows = events.select("stay_id", "time", "known_at", code.alias("code"), "value").drop_nulls()
        rows = rows.filter(pl.col("value").is_not_nan()).sort("stay_id", "time", "known_at", "code", "value")
        stay = grid.positions(rows["stay_id"].to_numpy())
        time = microseconds(rows["time"])
        row = grid.row(stay, grid.cell(stay, np.maximum(time, microseconds(rows["known_at"]))))
        held = (stay >= 0) & (row < grid.offsets[stay + 1])
        self.stay, self.row, self.time = stay[held], row[held], time[held]
        self.column: Ints = rows["code"].to_numpy()[held]
        self.value: NDArray[np.float64] = rows["value"].to_numpy()[held]


class Values:
    """Charted variables: aggregations, missing indicators, hours since measured."""

    def __init__(self, config: FeaturesConfig, variables: Sequence[str]) -> None:
        self.variables = chosen("variable", config.variables, variables)
        chosen("variable", tuple(config.carry_forward_by_variable), variables)
        self.config = config
        limits = [config.carry_forward_by_variable.get(v, config.carry_forward_hours) for v in self.variables]
        self.limit = np.array([round(limit * HOUR) for limit in limits], np.int64)
        columns = [Feature(f"{v}_{how}", "value", v) for how in config.aggregations for v in self.variables]
        if config.missing_indicators:
            columns += [Feature(f"{v}_missing", "missing", v) for v in self.variables]
        if config.hours_since_measured:
            columns += [Feature(f"{v}_since", "since", v) for v in self.variables]
        self.features = tuple(columns)

    def fill(self, x: NDArray[np.float32], grid: Grid, tables: Tables) -> None:
        """Write the columns of ``features``."""
        width = len(self.variables)
        if not width:
            return
        facts = Facts(grid, tables.events, self.variables)
        fresh = carry.arrivals(grid, facts.row, facts.column, width)
        held = carry.carry(grid, fresh, facts.stay)
        age = carry.age(grid, held, facts.time)
        blocks = iter(np.split(x, len(self.features) // width, axis=1))
        cells = _Cells(grid, facts, width)
        for how in self.config.aggregations:
            next(blocks)[:] = self._last(grid, facts, held, age) if how == "last" else cells.aggregate(how)
        if self.config.missing_indicators:
            next(blocks)[:] = fresh < 0
        if self.config.hours_since_measured:
            next(blocks)[:] = carry.hours(age, held)

    def _last(self, grid: Grid, facts: Facts, held: carry.Ranks, age: Ints) -> NDArray[np.float32]:
        values = np.append(facts.value, np.nan).astype(np.float32)[held]
        values[age > np.maximum(self.limit, grid.step - 1)] = np.nan
        return values


class _Cells:
    """What arrives in each cell, counted and summed over."""

    def __init__(self, grid: Grid, facts: Facts, width: int) -> None:
        self.shape = (grid.rows, width)
        self.key, self.value = facts.row * width + facts.column, facts.value

    def aggregate(self, how: str) -> NDArray[np.float64]:
        size = self.shape[0] * self.shape[1]
        if how == "count":
            cells = np.bincount(self.key, minlength=size).astype(np.float64)
        elif how == "mean":
            count = np.bincount(self.key, minlength=size)
            total = np.bincount(self.key, weights=self.value, minlength=size)
            cells = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
        else:
            cells = np.full(size, np.nan)
            (np.fmin if how == "min" else np.fmax).at(cells, self.key, self.value)
        return cells.reshape(self.shape)


class Statics:
    """What is known of a stay from its first hour, repeated on each row: numbers, and categories one-hot.

    A missing number is NaN; a missing category, or one outside the vocabulary, is all zeros.
    ``hours_in_hospital`` counts from admission to the hospital to admission to the unit.
    """

    def __init__(self, config: FeaturesConfig, vocabulary: Vocabulary) -> None:
        chosen("static", config.statics, [*NUMERIC, *CATEGORICAL, "hours_in_hospital"])
        self.columns = [
            (name, category)
            for name in config.statics
            for category in (vocabulary[name] if name in CATEGORICAL else [None])
        ]
        self.features = tuple(Feature(_label(*column), "static", column[0]) for column in self.columns)

    def fill(self, x: NDArray[np.float32], grid: Grid, tables: Tables) -> None:
        """Write the columns of ``features``."""
        stays = tables.stays.sort("stay_id")
        stays = stays.filter(grid.positions(stays["stay_id"].to_numpy()) >= 0)
        for j, column in enumerate(self.columns):
            x[:, j] = grid.per_row(stays.select(_static(*column).cast(pl.Float32)).to_series().to_numpy())


def _label(name: str, category: str | None) -> str:
    return name if category is None else f"{name}={category}"


def _static(name: str, category: str | None) -> pl.Expr:
    if category is not None:
        return (pl.col(name) == category).fill_null(False)
    if name == "hours_in_hospital":
        waited = pl.col("admitted_at") - pl.col("hospital_admitted_at")
        return (waited.dt.total_microseconds() / HOUR).fill_null(np.nan)
    return pl.col(name).fill_null(np.nan)


class Time:
    """Hours from admission to p(k)."""

    features: tuple[Feature, ...] = (Feature("hours", "time", "hours"),)

    def fill(self, x: NDArray[np.float32], grid: Grid, tables: Tables) -> None:
        """Write the column."""
        x[:, 0] = (grid.predicted_at - grid.per_row(grid.admitted)) / HOUR
