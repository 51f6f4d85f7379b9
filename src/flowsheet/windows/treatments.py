"""How drug exposures fill columns: up to three of each drug, as ``treatment_columns`` chooses.

An exposure is seen from max(start, known_at) on. At p(k) its ``end`` counts only as far as it has
passed.

``on``
    1 when a known exposure meets the cell.
``dose`` the amount known to have been given, less the amount known at the row before: of a running
    exposure the rate times the hours in the cell, of one given at once the amount. What was given
    before the exposure was known (or before the first row) comes in the cell in which it becomes
    known; one that is only known after its end comes whole. 0 where there is none; a dose that was
    not told adds nothing, and ``on`` speaks for it.
``since`` hours from the last moment at which the drug is known to have been given to p(k): 0 while
    it runs, NaN when it never was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import polars as pl

from flowsheet.cohort.schema import Tables
from flowsheet.config import FeaturesConfig, TreatmentColumn
from flowsheet.typing import Floats, Floats32, Ints
from flowsheet.windows import forward_fill as carry
from flowsheet.windows.features import chosen
from flowsheet.windows.grid import HOUR, Grid, microseconds
from flowsheet.windows.sequences import Feature


class Exposures:
    """Exposures cut along the cells that they meet: M pieces."""

    def __init__(self, grid: Grid, treatments: pl.DataFrame, drugs: Sequence[str]) -> None:
        code = pl.col("drug").cast(pl.Enum(drugs), strict=False).to_physical().cast(pl.Int64)
        rows = treatments.select(
            "stay_id", "start", "end", "known_at", code.alias("code"), pl.col("dose").fill_nan(None)
        )
        rows = rows.filter(pl.col("code").is_not_null()).sort(pl.all())
        stay = grid.positions(rows["stay_id"].to_numpy())
        rows, stay = rows.filter(stay >= 0), stay[stay >= 0]
        start, end, known = (microseconds(rows[name]) for name in ("start", "end", "known_at"))
        first = grid.row(stay, grid.cell(stay, np.maximum(start, known)))
        last = np.maximum(first, grid.row(stay, grid.cell(stay, end)))
        stop = np.minimum(last + 1, grid.offsets[stay + 1])

        pieces = np.maximum(stop - first, 0)
        of = np.repeat(np.arange(len(stay)), pieces)
        within = np.arange(len(of)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        self.stay, self.column, self.row = stay[of], rows["code"].to_numpy()[of], first[of] + within
        now = grid.predicted_at[self.row]
        self.until: Ints = np.minimum(end[of], now)
        since = np.where(within == 0, start[of], now - grid.step)
        hours = np.maximum(self.until - since, 0) / HOUR
        dose = rows["dose"].fill_null(0.0).to_numpy()[of]
        self.amount: Floats = np.where(end[of] == start[of], dose, dose * hours)


class Treatments:
    """Drugs: whether on, how much, how long ago."""

    def __init__(self, config: FeaturesConfig, drugs: Sequence[str]) -> None:
        self.drugs = chosen("drug", config.treatments, drugs)
        self.columns = chosen(
            "treatment column", config.treatment_columns, get_args(TreatmentColumn)
        )
        self.features = tuple(
            Feature(f"{drug}_{what}", "treatment", drug)
            for what in self.columns
            for drug in self.drugs
        )

    def fill(self, x: Floats32, grid: Grid, tables: Tables) -> None:
        """Write the columns of ``features``."""
        width = len(self.drugs)
        if not width:
            return
        given = Exposures(grid, tables.treatments, self.drugs)
        cell, shape = given.row * width + given.column, (grid.rows, width)
        for what, part in zip(self.columns, np.split(x, len(self.columns), axis=1), strict=True):
            if what == "on":
                part[:] = (np.bincount(cell, minlength=part.size) > 0).reshape(shape)
            elif what == "dose":
                part[:] = np.bincount(cell, weights=given.amount, minlength=part.size).reshape(
                    shape
                )
            else:
                part[:] = _since(grid, given, width)


def _since(grid: Grid, given: Exposures, width: int) -> Floats32:
    order = np.lexsort((given.until, given.stay))
    ranks = carry.arrivals(grid, given.row[order], given.column[order], width)
    held = carry.carry(grid, ranks, given.stay[order])
    return carry.hours(carry.age(grid, held, given.until[order]), held)
