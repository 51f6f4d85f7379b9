"""Features of the patient and of the admission, and the time since admission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from flowsheet.cohort.schema import Tables
from flowsheet.cohort.time_grid import HOUR
from flowsheet.config import FeaturesConfig
from flowsheet.typing import Floats32
from flowsheet.windows.features import CellEvents, select_names
from flowsheet.windows.forward_fill import forward_fill, rank_arrivals
from flowsheet.windows.grid import Grid, sort_by_stay
from flowsheet.windows.sequences import Feature

Vocabulary = Mapping[str, Sequence[str]]
"""Categories of each categorical column of the stays, in the order of their one-hot features."""

CATEGORICAL = ("site", "sex", "unit", "admission_type")
NUMERIC = ("age", "height_cm", "weight_kg", "charlson", "elixhauser")
CHARTED = {"height_cm": "height", "weight_kg": "weight"}
"""Columns that are often charted only after admission: the variable with the values."""


def collect_vocabulary(tables: Tables) -> dict[str, list[str]]:
    """The categories of these stays, sorted; to be stored with the extract and the model."""
    return list_categories(tables.stays)


def list_categories(stays: pl.DataFrame) -> dict[str, list[str]]:
    """The vocabulary of the table of stays."""
    return {name: sorted(stays[name].drop_nulls().unique().to_list()) for name in CATEGORICAL}


class StaticFeatures:
    """Numbers and one-hot categories of a stay, repeated on each of its rows.

    A missing number is NaN; a missing category, or one outside the vocabulary, is all zeros.
    ``hours_in_hospital`` is the time from admission to the hospital to admission to the unit.
    ``height_cm`` and ``weight_kg`` are the latest charted values that are known at p(k), and the
    column of the stay before the first of them.
    """

    def __init__(self, config: FeaturesConfig, vocabulary: Vocabulary) -> None:
        select_names("static", config.statics, [*NUMERIC, *CATEGORICAL, "hours_in_hospital"])
        self.columns: list[tuple[str, str | None]] = []
        for name in config.statics:
            if name in CATEGORICAL:
                self.columns += [(name, category) for category in vocabulary[name]]
            else:
                self.columns.append((name, None))
        self.features = tuple(
            Feature(_label(name, category), "static", name) for name, category in self.columns
        )

    def fill(self, x: Floats32, grid: Grid, tables: Tables) -> None:
        """Write the columns of ``features``."""
        stays = sort_by_stay(tables.stays)
        in_grid = grid.positions(stays["stay_id"].to_numpy()) >= 0
        values = stays.select(
            _value(name, category).cast(pl.Float32).alias(_label(name, category))
            for name, category in self.columns
        )
        for j, column in enumerate(values):
            x[:, j] = grid.per_row(column.to_numpy()[in_grid])
        for j, (name, _) in enumerate(self.columns):
            if name in CHARTED:
                latest = latest_values(grid, tables.events, CHARTED[name])
                x[:, j] = np.where(np.isnan(latest), x[:, j], latest)


def latest_values(grid: Grid, events: pl.DataFrame, variable: str) -> Floats32:
    """The latest value of a variable that is known at each p(k); NaN without one, shape (N,)."""
    charted = CellEvents(grid, events.filter(variable=variable), [variable])
    arrivals = rank_arrivals(grid, charted.row, charted.column, 1)
    latest = forward_fill(grid, arrivals, charted.stay)[:, 0]
    return np.asarray(np.append(charted.value, np.nan).astype(np.float32)[latest])


def _label(name: str, category: str | None) -> str:
    return name if category is None else f"{name}={category}"


def _value(name: str, category: str | None) -> pl.Expr:
    if category is not None:
        return (pl.col(name) == category).fill_null(False)
    if name == "hours_in_hospital":
        in_hospital = pl.col("admitted_at") - pl.col("hospital_admitted_at")
        return (in_hospital.dt.total_microseconds() / HOUR).fill_null(np.nan)
    return pl.col(name).fill_null(np.nan)


class TimeFeatures:
    """Hours from admission to p(k)."""

    features: tuple[Feature, ...] = (Feature("hours", "time", "hours"),)

    def fill(self, x: Floats32, grid: Grid, tables: Tables) -> None:
        """Write the column."""
        x[:, 0] = (grid.predicted_at - grid.per_row(grid.admitted)) / HOUR
