"""Columns of drug exposures: up to three for each drug, as ``treatment_columns`` selects.

An exposure is visible from max(start, known_at) on. At p(k) its ``end`` counts only as far as it
has passed.

``on``
    1 when a known exposure overlaps the cell.
``dose``
    The amount known to have been given up to p(k), minus the amount known at the row before: for an
    infusion the rate times the hours in the cell, for a single dose the amount. What was given
    before the exposure was known, or before the first row, counts in the cell in which it becomes
    known; an exposure that becomes known after its end counts there with its whole amount. 0
    without any exposure; an exposure without a recorded dose adds nothing, and only sets ``on``.
``since``
    Hours from the last moment at which the drug is known to have been given to p(k): 0 while it
    runs, NaN when it was never given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.catalogue import ANTI_INFECTIVE_GROUPS
from flowsheet.cohort.schema import Tables
from flowsheet.cohort.time_grid import HOUR, NEVER, microseconds
from flowsheet.config import FeaturesConfig, TreatmentColumn
from flowsheet.errors import UsageError
from flowsheet.typing import Bools, Floats, Floats32, Ints
from flowsheet.windows.features import select_names
from flowsheet.windows.forward_fill import age_in_hours, compute_age, forward_fill, rank_arrivals
from flowsheet.windows.grid import Grid
from flowsheet.windows.sequences import Feature


class Exposures:
    """Exposures divided at the boundaries of cells: M pieces, each in one row and column."""

    def __init__(self, grid: Grid, treatments: pl.DataFrame, drugs: Sequence[str]) -> None:
        drug = pl.col("drug").cast(pl.Enum(drugs), strict=False)
        code = drug.to_physical().cast(pl.Int64).alias("code")
        dose = pl.col("dose").fill_nan(None)
        rows = treatments.select("stay_id", "start", "end", "known_at", code, dose)
        rows = rows.filter(pl.col("code").is_not_null()).sort(pl.all())
        position = grid.positions(rows["stay_id"].to_numpy())
        rows = rows.filter(position >= 0)
        stay = position[position >= 0]
        start = microseconds(rows["start"])
        end = microseconds(rows["end"])
        visible_from = np.maximum(start, microseconds(rows["known_at"]))
        first = grid.row(stay, grid.cell(stay, visible_from))
        last = np.maximum(first, grid.row(stay, grid.cell(stay, end)))
        stop = np.minimum(last + 1, grid.offsets[stay + 1])

        pieces = np.maximum(stop - first, 0)
        exposure = np.repeat(np.arange(len(stay)), pieces)
        piece = np.arange(len(exposure)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        self.stay = stay[exposure]
        self.column: Ints = rows["code"].to_numpy()[exposure]
        self.row = first[exposure] + piece
        predicted_at = grid.predicted_at[self.row]
        self.until: Ints = np.minimum(end[exposure], predicted_at)
        piece_start = np.where(piece == 0, start[exposure], predicted_at - grid.step)
        hours = np.maximum(self.until - piece_start, 0) / HOUR
        doses = rows["dose"].fill_null(0.0).to_numpy()[exposure]
        is_single_dose = end[exposure] == start[exposure]
        self.amount: Floats = np.where(is_single_dose, doses, doses * hours)
        is_running = ~is_single_dose & (self.until == predicted_at)
        rate = rows["dose"].fill_null(np.nan).to_numpy()[exposure]
        self.rate: Floats = np.where(is_running, rate, 0.0)
        """Of infusions that run at p(k), per hour, NaN if it is not recorded; else 0."""


class TreatmentFeatures:
    """Drugs: whether they run, the dose, and the hours since they were given."""

    def __init__(self, config: FeaturesConfig, drugs: Sequence[str]) -> None:
        self.drugs = select_drugs(config, drugs)
        self.columns = select_names(
            "treatment column", config.treatment_columns, get_args(TreatmentColumn)
        )
        self.features = tuple(
            Feature(f"{drug}_{column}", "treatment", drug)
            for column in self.columns
            for drug in self.drugs
        )

    def fill(self, x: Floats32, grid: Grid, tables: Tables) -> None:
        """Write the columns of ``features``."""
        width = len(self.drugs)
        if not width:
            return
        exposures = Exposures(grid, tables.treatments, self.drugs)
        cell = exposures.row * width + exposures.column
        shape = (grid.rows, width)
        parts = np.split(x, len(self.columns), axis=1)
        for column, part in zip(self.columns, parts, strict=True):
            if column == "on":
                pieces = np.bincount(cell, minlength=part.size)
                part[:] = (pieces > 0).reshape(shape)
            elif column == "dose":
                amount = np.bincount(cell, weights=exposures.amount, minlength=part.size)
                part[:] = amount.reshape(shape)
            else:
                part[:] = _hours_since(grid, exposures, width)


def select_drugs(config: FeaturesConfig, drugs: Sequence[str]) -> tuple[str, ...]:
    """The drugs that the configuration selects, without those of the groups that it excludes."""
    group_of_drug = {drug.name: drug.group for drug in catalogue.drugs().values()}
    groups = sorted(set(group_of_drug.values()))
    excluded = select_names("treatment group", config.excluded_treatment_groups, groups)
    selected = select_names("drug", config.treatments, drugs)
    contradictory = [drug for drug in selected if group_of_drug.get(drug) in excluded]
    if contradictory and config.treatments != "all":
        raise UsageError(
            f"the features list the drug {contradictory[0]!r} and exclude its group "
            f"{group_of_drug[contradictory[0]]!r}",
            todo="remove the drug from treatments, or its group from excluded_treatment_groups",
        )
    return tuple(drug for drug in selected if drug not in contradictory)


def find_rows_before_treatment(grid: Grid, treatments: pl.DataFrame) -> Bools:
    """Rows at whose prediction time no exposure to an anti-infective is known, shape (N,).

    Every drug of the catalogue's groups ``ANTI_INFECTIVE_GROUPS`` counts, prophylaxis included. An
    exposure is known at ``known_at``, which may be before its start. Cultures are no part of the
    contract.
    """
    groups = ANTI_INFECTIVE_GROUPS
    drugs = [drug.name for drug in catalogue.drugs().values() if drug.group in groups]
    exposures = treatments.filter(pl.col("drug").is_in(drugs))
    position = grid.positions(exposures["stay_id"].to_numpy())
    known_at = microseconds(exposures["known_at"])
    first_known = np.full(len(grid.stay_id), NEVER)
    np.minimum.at(first_known, position[position >= 0], known_at[position >= 0])
    return np.asarray(grid.predicted_at < grid.per_row(first_known))


def _hours_since(grid: Grid, exposures: Exposures, width: int) -> Floats32:
    order = np.lexsort((exposures.until, exposures.stay))
    arrivals = rank_arrivals(grid, exposures.row[order], exposures.column[order], width)
    filled = forward_fill(grid, arrivals, exposures.stay[order])
    return age_in_hours(compute_age(grid, filled, exposures.until[order]), filled)
