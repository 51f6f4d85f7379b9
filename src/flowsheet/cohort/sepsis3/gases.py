"""The respiratory component: oxygen in the blood, with the inspired oxygen and ventilation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.latest import latest_before, select_variable
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.typing import Bools, Floats

HIGHEST_SATURATION = 97.0
"""Above it the saturation says little about the oxygen in the blood: Rice et al., Chest 132:410
(2007), doi:10.1378/chest.07-0617."""


@dataclass(frozen=True)
class OxygenBounds:
    """Ratios to the inspired oxygen: the score is how many of them a ratio is below."""

    always: tuple[float, ...]
    ventilated: tuple[float, ...]
    """Only with ventilation."""
    is_inclusive: bool = False
    """A ratio that equals a bound is below it too."""

    def grade(self, ratio: Floats, is_ventilated: Bools) -> pl.Series:
        """The score of each ratio."""
        below = np.less_equal if self.is_inclusive else np.less
        low = [below(ratio, bound) for bound in self.always]
        low += [below(ratio, bound) & is_ventilated for bound in self.ventilated]
        return pl.Series(np.sum(low, axis=0), dtype=pl.Int8)


PF_BOUNDS = OxygenBounds(always=(400, 300), ventilated=(200, 100))
"""PaO2/FiO2 in mmHg: Vincent et al., Intensive Care Med 22:707 (1996), doi:10.1007/BF01709751."""
SF_BOUNDS = OxygenBounds(always=(512, 357), ventilated=(214, 89))
"""SpO2/FiO2 that correspond to them: Pandharipande et al., Crit Care Med 37:1317 (2009),
doi:10.1097/CCM.0b013e31819cefa9."""


def grade_blood_gases(
    grid: HourlyGrid,
    events: pl.DataFrame,
    options: Sepsis3Options,
    bounds: OxygenBounds = PF_BOUNDS,
) -> pl.DataFrame:
    """(stay_id, time, known_at, score) of every blood gas with a known inspired oxygen.

    Args:
        grid: The stays.
        events: The contract's table.
        options: The definition's parameters.
        bounds: Of PaO2/FiO2.
    """
    gases = select_variable(grid, events, "po2")
    return _grade(grid, events, gases, bounds, options)


def grade_saturations(
    grid: HourlyGrid,
    events: pl.DataFrame,
    options: Sepsis3Options,
    bounds: OxygenBounds = SF_BOUNDS,
) -> pl.DataFrame:
    """(stay_id, time, known_at, score) of every saturation with a known inspired oxygen.

    Args:
        grid: The stays.
        events: The contract's table.
        options: The definition's parameters.
        bounds: Of SpO2/FiO2.
    """
    charted = select_variable(grid, events, "o2sat").filter(pl.col("value") <= HIGHEST_SATURATION)
    return _grade(grid, events, charted, bounds, options)


def _grade(
    grid: HourlyGrid,
    events: pl.DataFrame,
    measured: pl.DataFrame,
    bounds: OxygenBounds,
    options: Sepsis3Options,
) -> pl.DataFrame:
    """The scores of the measurements that have an inspired oxygen.

    Args:
        grid: The stays.
        events: The contract's table.
        measured: pO2 or saturation, sorted.
        bounds: Of the ratio.
        options: The definition's parameters.
    """
    oxygen = select_variable(grid, events, "fio2")
    fio2 = latest_before(grid, measured, oxygen, options.fio2_hours, options)
    if options.fio2_default is not None:
        fio2 = np.where(np.isnan(fio2), options.fio2_default, fio2)
    modes = select_variable(grid, events, "vent")
    vent = latest_before(grid, measured, modes, options.ventilation_hours, options)
    ratio = np.round(100 * measured["value"].to_numpy() / fio2, 6)
    graded = measured.select("stay_id", "time", "known_at", score=bounds.grade(ratio, vent >= 0.5))
    return graded.filter(~np.isnan(ratio))
