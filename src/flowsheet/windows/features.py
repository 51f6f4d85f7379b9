"""Which columns a model sees, and how charted events fill them.

The columns follow from the configuration and from three lists that are kept beside the extract or
the saved model: variables, drugs and the vocabulary of categories. What the data at hand happens to
hold never matters.

An event belongs to the cell (see :mod:`flowsheet.windows.grid`) in which it becomes known.

``last`` the value with the latest ``time`` among those known; of two with one time the one known
    later. A value holds for ``carry_forward_hours`` from its ``time`` to p(k), and at least through
    the cell in which it was true.
``mean``, ``min``, ``max``, ``count``
    of the values that arrive in the cell; NaN (count: 0) where none does.
``missing``
    1 when no value arrives in the cell.
``since`` hours from the ``time`` of the latest known value to p(k), uncapped; NaN when there never
    was one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, get_args

import numpy as np
import polars as pl

from flowsheet.cohort.schema import Tables
from flowsheet.config import Aggregation, FeaturesConfig
from flowsheet.errors import UsageError, did_you_mean
from flowsheet.typing import Floats, Floats32, Ints, Ints32
from flowsheet.windows import forward_fill as carry
from flowsheet.windows.grid import HOUR, Grid, microseconds
from flowsheet.windows.sequences import Feature


def chosen(kind: str, wanted: str | tuple[str, ...], held: Sequence[str]) -> tuple[str, ...]:
    """The names that the configuration wants: "all", "none" or a list, out of those there are.

    Raises:
        UsageError: a name is not among them, or comes twice.
    """
    if isinstance(wanted, str):
        return tuple(held) if wanted == "all" else ()
    if len(set(wanted)) < len(wanted):
        raise UsageError(
            f"the features name a {kind} twice: {', '.join(wanted)}", todo="name each once"
        )
    for name in wanted:
        if name not in held:
            raise UsageError(
                f"the features want the {kind} {name!r}, which there is not",
                todo=did_you_mean(name, held),
            )
    return wanted


class Block(Protocol):
    """Neighbouring columns that are filled together."""

    features: tuple[Feature, ...]

    def fill(self, x: Floats32, grid: Grid, tables: Tables) -> None:
        """Write every element of x, shape (N, len(features)), from the facts of the grid's stays."""


class Facts:
    """M values in cells, ascending by stay, then time, known_at and value."""

    def __init__(self, grid: Grid, events: pl.DataFrame, variables: Sequence[str]) -> None:
        code = (
            pl.col("variable").cast(pl.Enum(variables), strict=False).to_physical().cast(pl.Int64)
        )
        rows = events.select(
            "stay_id", "time", "known_at", code.alias("code"), "value"
        ).drop_nulls()
        rows = rows.filter(pl.col("value").is_not_nan()).sort(
            "stay_id", "time", "known_at", "code", "value"
        )
        stay = grid.positions(rows["stay_id"].to_numpy())
        time = microseconds(rows["time"])
        row = grid.row(stay, grid.cell(stay, np.maximum(time, microseconds(rows["known_at"]))))
        held = (stay >= 0) & (row < grid.offsets[stay + 1])
        self.stay, self.row, self.time = stay[held], row[held], time[held]
        self.column: Ints = rows["code"].to_numpy()[held]
        self.value: Floats = rows["value"].to_numpy()[held]


class Values:
    """Charted variables: aggregations, missing indicators, hours since measured."""

    def __init__(self, config: FeaturesConfig, variables: Sequence[str]) -> None:
        self.variables = chosen("variable", config.variables, variables)
        chosen("variable", tuple(config.carry_forward_by_variable), variables)
        chosen("aggregation", config.aggregations, get_args(Aggregation))
        self.config = config
        limits = [
            config.carry_forward_by_variable.get(v, config.carry_forward_hours)
            for v in self.variables
        ]
        self.limit = np.array([round(limit * HOUR) for limit in limits], np.int64)
        columns = [
            Feature(f"{v}_{how}", "value", v) for how in config.aggregations for v in self.variables
        ]
        if config.missing_indicators:
            columns += [Feature(f"{v}_missing", "missing", v) for v in self.variables]
        if config.hours_since_measured:
            columns += [Feature(f"{v}_since", "since", v) for v in self.variables]
        self.features = tuple(columns)

    def fill(self, x: Floats32, grid: Grid, tables: Tables) -> None:
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
            next(blocks)[:] = (
                self._last(grid, facts, held, age) if how == "last" else cells.aggregate(how)
            )
        if self.config.missing_indicators:
            next(blocks)[:] = fresh < 0
        if self.config.hours_since_measured:
            next(blocks)[:] = carry.hours(age, held)

    def _last(self, grid: Grid, facts: Facts, held: Ints32, age: Ints) -> Floats32:
        values = np.append(facts.value, np.nan).astype(np.float32)[held]
        values[age > np.maximum(self.limit, grid.step - 1)] = np.nan
        return values


class _Cells:
    """What arrives in each cell, counted and summed over."""

    def __init__(self, grid: Grid, facts: Facts, width: int) -> None:
        self.shape = (grid.rows, width)
        self.key, self.value = facts.row * width + facts.column, facts.value

    def aggregate(self, how: str) -> Floats:
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
