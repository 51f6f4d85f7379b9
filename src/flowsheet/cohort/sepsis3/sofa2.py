"""The SOFA-2 score of every hour.

JAMA (2025), doi:10.1001/jama.2025.20516; thresholds and footnotes as documented by its
implementation for CLIF (Common-Longitudinal-ICU-data-Format/clifpy, utils/sofa2/sofa2.md). As in
SOFA, the score of an hour is the worst of its last 24 hours, and a component that was not measured
counts 0 in the total. docs/sepsis3.md lists what the contract's tables cannot tell.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.sepsis3.coma import collect_coma_scores
from flowsheet.cohort.sepsis3.facts import (
    Score,
    as_facts,
    count_below,
    count_exceeded,
    first_known_of,
    grade_variable,
    worse_of,
    worst_of_day,
)
from flowsheet.cohort.sepsis3.gases import OxygenBounds, grade_blood_gases, grade_saturations
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid, forward_fill
from flowsheet.cohort.sepsis3.latest import last_by_hour, latest_before, select_variable
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.sepsis3.urine import collect_urine, in_last_day
from flowsheet.cohort.sepsis3.vasoactives import grade_vasoactives
from flowsheet.cohort.time_grid import HOUR, from_hours, microseconds
from flowsheet.typing import Bools, Floats

PF_BOUNDS = OxygenBounds(always=(300, 225), ventilated=(150, 75), is_inclusive=True)
SF_BOUNDS = OxygenBounds(always=(300, 250), ventilated=(200, 120), is_inclusive=True)
DELIRIUM_DRUGS = ("haloperidol", "dexmedetomidine")
"""At least one point for the brain."""


def grade_organs(
    grid: HourlyGrid, events: pl.DataFrame, treatments: pl.DataFrame, options: Sepsis3Options
) -> dict[str, Score]:
    """The score of each component at every hour.

    Args:
        grid: The stays.
        events: The contract's table.
        treatments: The contract's table.
        options: The definition's parameters.
    """
    value = pl.col("value")

    def grade(variable: str, score: pl.Expr) -> Score:
        return grade_variable(grid, events, variable, score, options)

    return {
        "respiration": _grade_respiration(grid, events, options),
        "coagulation": grade("plt", _count_at_most(150, 100, 80, 50)),
        "liver": grade("bili", count_exceeded(value, (1.2, 3, 6, 12))),
        "cardiovascular": worse_of(
            grade("map", count_below(value, (70,))), grade_vasoactives(grid, treatments, options)
        ),
        "cns": _grade_brain(grid, events, treatments, options),
        "renal": _grade_kidney(grid, events, options),
    }


def _count_at_most(*bounds: float) -> pl.Expr:
    return pl.sum_horizontal((pl.col("value") <= bound).cast(pl.Int8) for bound in bounds)


def _grade_respiration(grid: HourlyGrid, events: pl.DataFrame, options: Sepsis3Options) -> Score:
    """By PaO2/FiO2; by SpO2/FiO2 where there is no blood gas in the last 24 hours."""
    gases = grade_blood_gases(grid, events, options, PF_BOUNDS)
    saturations = grade_saturations(grid, events, options, SF_BOUNDS)
    score = pl.col("score")
    by_gas = worst_of_day(grid, as_facts("respiration", gases, score), options)
    by_saturation = worst_of_day(grid, as_facts("respiration", saturations, score), options)
    return first_known_of(by_gas, by_saturation)


def _grade_brain(
    grid: HourlyGrid, events: pl.DataFrame, treatments: pl.DataFrame, options: Sepsis3Options
) -> Score:
    """By the coma score, or the motor response where there is no total.

    What is charted under sedation does not count: the score before it is kept, or is 0.
    """
    value = pl.col("value")
    total = collect_coma_scores(grid, events, options)
    motor = select_variable(grid, events, "mgcs")
    ordered = total.sort("stay_id", "time", "known_at", "value")
    has_total = ~np.isnan(latest_before(grid, motor, ordered, 0.0, options))
    motor = motor.filter(~has_total).select(total.columns)
    facts = pl.concat(
        [
            as_facts("cns", total, count_below(value, (15, 13, 9, 6))),
            as_facts("cns", motor, count_below(value, (6, 5, 4, 3))),
        ]
    )
    is_infusion = pl.col("end") > pl.col("start")
    drugs = [name for name, drug in catalogue.drugs().items() if drug.group == "sedative"]
    drugs.remove("haloperidol")
    sedation = treatments.filter(is_infusion & pl.col("drug").is_in(drugs))
    facts = facts.filter(~_is_during(grid, facts, sedation, options))
    score, is_known = worst_of_day(grid, facts, options)
    is_sedated = _covered_hours(grid, sedation, options)
    before, _ = forward_fill(score, is_known, grid.offsets)
    kept = is_sedated & ~is_known
    brain = np.where(kept, before, score), is_known | is_sedated
    delirium = treatments.filter(pl.col("drug").is_in(DELIRIUM_DRUGS))
    delirium = delirium.with_columns(time="start")
    return worse_of(
        brain, worst_of_day(grid, as_facts("cns", delirium, pl.lit(1), until="end"), options)
    )


def _is_during(
    grid: HourlyGrid, facts: pl.DataFrame, infusions: pl.DataFrame, options: Sepsis3Options
) -> Bools:
    """Whether each fact is charted during an infusion that was in the record when it counts.

    Args:
        grid: The stays.
        facts: With stay_id, time and known_at.
        infusions: Rows of treatments.
        options: The definition's parameters.
    """
    rows = infusions.filter(grid.stay_positions(infusions) >= 0)
    rows = rows.sort("stay_id", "start", "end", "known_at")
    start, end, known = (microseconds(rows[name]) for name in ("start", "end", "known_at"))
    longest = int((end - start).max(initial=0))
    time = microseconds(facts["time"])
    counts_from = np.maximum(
        microseconds(facts["known_at"]), time + from_hours(options.charting_delay_hours)
    )
    fact, infusion = grid.pairs(
        (grid.stay_positions(facts), time - longest, time), (grid.stay_positions(rows), start)
    )
    runs = (end[infusion] > time[fact]) & (known[infusion] <= counts_from[fact])
    is_during = np.zeros(facts.height, bool)
    is_during[fact[runs]] = True
    return is_during


def _covered_hours(grid: HourlyGrid, infusions: pl.DataFrame, options: Sepsis3Options) -> Bools:
    """The hours at which an infusion runs, shape (N,)."""
    rows = infusions.filter(grid.stay_positions(infusions) >= 0)
    start, end, known = (microseconds(rows[name]) for name in ("start", "end", "known_at"))
    start = np.maximum(start, known - from_hours(options.charting_delay_hours))
    return grid.covered(grid.stay_positions(rows), start, end)


def _grade_kidney(grid: HourlyGrid, events: pl.DataFrame, options: Sepsis3Options) -> Score:
    """By creatinine, urine, and renal replacement therapy or its criteria."""
    value = pl.col("value")
    creatinine = grade_variable(grid, events, "crea", count_exceeded(value, (1.2, 2, 3.5)), options)
    urine, is_oliguric = _grade_urine(grid, events, options)
    renal = worse_of(creatinine, urine)

    def had(variable: str, condition: pl.Expr) -> Bools:
        return grade_variable(grid, events.filter(condition), variable, pl.lit(0), options)[1]

    is_acidotic = had("ph", value <= 7.2) & had("bicar", value <= 12)
    needs_therapy = (had("crea", value > 1.2) | is_oliguric) & (had("k", value >= 6) | is_acidotic)
    has_therapy = had("rrt", value >= 0.5) & options.rrt_points
    is_four = needs_therapy | has_therapy
    return np.where(is_four, 4, renal[0]), renal[1] | is_four


def _grade_urine(
    grid: HourlyGrid, events: pl.DataFrame, options: Sepsis3Options
) -> tuple[Score, Bools]:
    """The score by urine, and whether it was below 0.3 mL/kg/h for 6 hours in the last 24."""
    weight = last_by_hour(grid, select_variable(grid, events, "weight"), options)
    rate: dict[int, Floats] = {}
    is_judged: dict[int, Bools] = {}
    volume: dict[int, Floats] = {}
    for hours in (6, 12, 24):
        output = collect_urine(grid, events, hours * HOUR, options)
        is_covered = output.is_new & (output.covered >= hours * HOUR) & (output.volume >= 0)
        is_judged[hours] = is_covered & ~np.isnan(weight)
        per_hour = output.volume * HOUR / np.maximum(output.covered, 1)
        rate[hours] = np.round(per_hour / np.where(is_judged[hours], weight, 1), 6)
        volume[hours] = np.where(is_covered, output.volume, np.inf)

    def was_below(hours: int, bound: float) -> Bools:
        return in_last_day(grid, is_judged[hours] & (rate[hours] < bound))

    score = np.select(
        [
            was_below(24, 0.3) | in_last_day(grid, volume[12] == 0),
            was_below(12, 0.5),
            was_below(6, 0.5),
        ],
        [3, 2, 1],
        0,
    )
    is_known = in_last_day(grid, is_judged[6]) | (score > 0)
    return (score, is_known), was_below(6, 0.3)
