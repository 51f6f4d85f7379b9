"""Acute kidney injury by KDIGO: creatinine, urine output and dialysis.

KDIGO Clinical Practice Guideline for Acute Kidney Injury, Kidney Int Suppl 2:1-138 (2012),
doi:10.1038/kisup.2012.1, section 2.1. The stage of an hour is the highest of

- creatinine: 1 for a rise by 0.3 mg/dL within 48 h or to 1.5 times the baseline, 2 for twice, 3 for
  three times the baseline, or 4.0 mg/dL of a patient who has stage 1;
- urine: 1 below 0.5 mL/kg/h for 6 h, 2 for 12 h, 3 below 0.3 mL/kg/h for 24 h or none for 12 h;
- renal replacement therapy: 3.

An episode lasts until no criterion has been met for 48 h: Chawla et al., Nat Rev Nephrol 13:241-257
(2017), doi:10.1038/nrneph.2017.2, call only that a sustained reversal.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field

from flowsheet.cohort.completeness import Needs
from flowsheet.cohort.derived import add_derived
from flowsheet.cohort.hourly_states import (
    Hours,
    StateOptions,
    carry,
    find_state_episodes,
    latest_value,
)
from flowsheet.cohort.responses.base import RESPONSES, Records, Response, Words
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.latest import select_variable
from flowsheet.cohort.time_grid import from_hours, microseconds
from flowsheet.typing import Floats, Ints

Positive = Annotated[float, Field(gt=0, le=100)]
_URINE = ("urine_rate_6h", "urine_rate_12h", "urine_rate_24h")
MDRD_GFR = 75.0
"""mL/min/1.73 m2 of a patient whose kidneys are presumed healthy (KDIGO 2012, table 9)."""


class AkiOptions(StateOptions):
    """KDIGO's limits, and what KDIGO leaves open."""

    stage: Annotated[int, Field(ge=1, le=3)] = 1
    """The lowest stage that counts."""
    baseline: Literal["lowest", "first", "mdrd"] = "lowest"
    """Creatinine of the healthy patient: ``lowest`` of the last ``baseline_days``; ``first`` of the
    record; ``mdrd``: as the MDRD formula has it for a filtration of 75 mL/min/1.73 m2, by age and
    sex (where these are not recorded, ``lowest``)."""
    baseline_days: Annotated[float, Field(gt=0, le=365)] = 7.0
    rise_mg_dl: Positive = 0.3
    rise_hours: Hours = 48.0
    ratios: tuple[Positive, Positive, Positive] = (1.5, 2.0, 3.0)
    """Creatinine over baseline for the stages 1 to 3."""
    severe_mg_dl: Positive = 4.0
    """Creatinine for stage 3 of a patient who has stage 1."""
    creatinine_hours: Hours = 48.0
    """A value counts until the next one, for this long at most."""
    use_urine: bool = True
    low_urine: Positive = 0.5
    """mL/kg/h for 6 h (stage 1) or 12 h (stage 2)."""
    very_low_urine: Positive = 0.3
    """mL/kg/h for 24 h (stage 3)."""
    urine_hours: Hours = 6.0
    """A rate of urine counts until the next one, for this long at most."""
    use_dialysis: bool = True
    dialysis_hours: Hours = 24.0
    """Renal replacement therapy counts this long after it was last charted as running."""
    end_after_hours: Annotated[int, Field(ge=1, le=336)] = 48
    """Hours in a row without any criterion after which the episode ends."""


@RESPONSES.register("aki")
class Aki(Response):
    """Acute kidney injury by KDIGO: creatinine, urine output, dialysis."""

    Options = AkiOptions
    words = Words("acute kidney injury", "in kidney injury", "develop acute kidney injury")

    def needs(self) -> Needs:
        """Creatinine; who has no urine or dialysis charted is judged without."""
        return Needs(variables={"acute kidney injury": ("crea",)})

    def find_episodes(self, records: Records) -> pl.DataFrame:
        """Episodes of at least the chosen stage."""
        grid = HourlyGrid.from_stays(records.stays)
        stage = grade_kidneys(grid, records, self.options)
        return find_state_episodes(grid, stage >= self.options.stage, self.options)


def grade_kidneys(grid: HourlyGrid, records: Records, options: AkiOptions) -> Ints:
    """KDIGO's stage of each hour, 0 without injury or measurement; shape (N,)."""
    stages = [_grade_creatinine(grid, records, options)]
    if options.use_urine:
        stages.append(_grade_urine(grid, records, options))
    if options.use_dialysis:
        runs = latest_value(grid, records.events, "rrt", options.dialysis_hours, options)
        stages.append(np.where(runs >= 0.5, 3, 0))
    return np.asarray(np.max(stages, axis=0))


def _grade_creatinine(grid: HourlyGrid, records: Records, options: AkiOptions) -> Ints:
    charted = select_variable(grid, records.events, "crea")
    value = charted["value"].to_numpy()
    lowest = _lowest_before(grid, charted, options.rise_hours, options)
    baseline = _find_baseline(grid, records.stays, charted, options)
    rise = np.round(value - lowest, 6)
    ratio = np.round(value / baseline, 6)
    stage = np.sum([ratio >= limit for limit in options.ratios], axis=0)
    stage = np.maximum(stage, rise >= options.rise_mg_dl)
    stage = np.where((stage >= 1) & (value >= options.severe_mg_dl), 3, stage)
    hourly = carry(grid, charted, stage.astype(float), options.creatinine_hours, options)
    return np.nan_to_num(hourly).astype(np.int64)


def _find_baseline(
    grid: HourlyGrid, stays: pl.DataFrame, charted: pl.DataFrame, options: AkiOptions
) -> Floats:
    """The baseline of each value of creatinine.

    Args:
        grid: The stays.
        stays: The contract's table.
        charted: The values, sorted.
        options: The rule.
    """
    if options.baseline == "first":
        return _first_before(grid, charted, options)
    lowest = _lowest_before(grid, charted, 24 * options.baseline_days, options)
    if options.baseline == "lowest":
        return lowest
    mdrd = np.append(_mdrd_creatinine(stays), np.nan)[grid.stay_positions(charted)]
    return np.where(np.isnan(mdrd), lowest, mdrd)


def _mdrd_creatinine(stays: pl.DataFrame) -> Floats:
    """mg/dL by age and sex, in the order of the stays' ids; NaN where these are not recorded.

    Levey et al., Ann Intern Med 130:461-470 (1999), doi:10.7326/0003-4819-130-6-199903160-00002,
    solved for creatinine, without its coefficient of race.
    """
    is_female = pl.when(pl.col("sex") == "F").then(0.742).when(pl.col("sex") == "M").then(1.0)
    filtration = 186 * pl.col("age").clip(18) ** -0.203 * is_female
    creatinine = (MDRD_GFR / filtration) ** (-1 / 1.154)
    return stays.sort("stay_id").select(creatinine.fill_null(np.nan)).to_series().to_numpy()


def _pairs_before(
    grid: HourlyGrid, charted: pl.DataFrame, hours: float, options: AkiOptions
) -> tuple[Ints, Ints]:
    """(value, earlier value or itself) of each pair that is in the record when the first counts.

    Args:
        grid: The stays.
        charted: The values, sorted.
        hours: How much earlier, at most.
        options: The charting delay.
    """
    stay = grid.stay_positions(charted)
    time = microseconds(charted["time"])
    known = microseconds(charted["known_at"])
    value, earlier = grid.pairs((stay, time - from_hours(hours), time), (stay, time))
    counts_from = np.maximum(known, time + from_hours(options.charting_delay_hours))
    in_record = known[earlier] <= counts_from[value]
    return value[in_record], earlier[in_record]


def _lowest_before(
    grid: HourlyGrid, charted: pl.DataFrame, hours: float, options: AkiOptions
) -> Floats:
    """The lowest value of the hours before each value, itself included; shape (values,)."""
    values = charted["value"].to_numpy()
    lowest = values.copy()
    value, earlier = _pairs_before(grid, charted, hours, options)
    np.minimum.at(lowest, value, values[earlier])
    return lowest


def _first_before(grid: HourlyGrid, charted: pl.DataFrame, options: AkiOptions) -> Floats:
    """The first value of the record, as known when each value counts; shape (values,)."""
    stay = grid.stay_positions(charted)
    first = np.arange(charted.height)
    since = microseconds(charted["time"]) - (grid.admitted[stay] - from_hours(24))
    longest = since.max(initial=0) / from_hours(1)
    value, earlier = _pairs_before(grid, charted, longest, options)
    np.minimum.at(first, value, earlier)
    return charted["value"].to_numpy()[first]


def _grade_urine(grid: HourlyGrid, records: Records, options: AkiOptions) -> Ints:
    events = records.events.filter(pl.col("variable").is_in(_URINE))
    if events.is_empty():
        events = add_derived(records.stays, records.events, records.treatments)
    six, twelve, day = (
        latest_value(grid, events, name, options.urine_hours, options) for name in _URINE
    )
    third = (day < options.very_low_urine) | (twelve <= 0)
    stage = np.where(six < options.low_urine, 1, 0)
    stage = np.where(twelve < options.low_urine, 2, stage)
    return np.where(third, 3, stage)
