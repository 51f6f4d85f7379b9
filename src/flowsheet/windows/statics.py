"""How what is known of a stay from its first hour fills columns, and the hours since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from flowsheet.cohort.schema import Tables
from flowsheet.config import FeaturesConfig
from flowsheet.typing import Floats32
from flowsheet.windows.features import chosen
from flowsheet.windows.grid import HOUR, Grid, by_stay
from flowsheet.windows.sequences import Feature

Vocabulary = Mapping[str, Sequence[str]]
"""Categories of each categorical column of the stays, in the order of their one-hot features."""

CATEGORICAL = ("site", "sex", "unit", "admission_type")
NUMERIC = ("age", "height_cm", "weight_kg")


def collect_vocabulary(tables: Tables) -> dict[str, list[str]]:
    """The categories that these stays hold, sorted; to be kept with the extract and the model."""
    return {
        name: sorted(tables.stays[name].drop_nulls().unique().to_list()) for name in CATEGORICAL
    }


class Statics:
    """What is known of a stay from its first hour, repeated on each row: numbers, and categories
    one-hot.

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
        self.features = tuple(
            Feature(_label(*column), "static", column[0]) for column in self.columns
        )

    def fill(self, x: Floats32, grid: Grid, tables: Tables) -> None:
        """Write the columns of ``features``."""
        stays = by_stay(tables.stays)
        held = grid.positions(stays["stay_id"].to_numpy()) >= 0
        told = stays.select(
            _static(*column).cast(pl.Float32).alias(_label(*column)) for column in self.columns
        )
        for j, column in enumerate(told):
            x[:, j] = grid.per_row(column.to_numpy()[held])


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

    def fill(self, x: Floats32, grid: Grid, tables: Tables) -> None:
        """Write the column."""
        x[:, 0] = (grid.predicted_at - grid.per_row(grid.admitted)) / HOUR
