"""The cardiovascular component of SOFA-2: the sum of norepinephrine and epinephrine, and others.

Every drug counts if its kind ran for ``vasopressor_min_hours``; an unknown dose is the lowest.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort.schema import TIME
from flowsheet.cohort.sepsis3.facts import FACTS, worst_of_day
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.sepsis3.vasopressors import ran_long_enough
from flowsheet.cohort.time_grid import from_hours, microseconds
from flowsheet.typing import Bools, Ints

CATECHOLAMINES = ("norepinephrine", "epinephrine")
DOPAMINE = ("dopamine",)
OTHERS = ("dobutamine", "vasopressin", "phenylephrine", "milrinone", "isoproterenol")


def grade_vasoactives(
    grid: HourlyGrid, treatments: pl.DataFrame, options: Sepsis3Options
) -> tuple[Ints, Bools]:
    """The worst score of the last 24 hours, and whether there is any; shape (N,) each."""
    is_infusion = (pl.col("end") > pl.col("start")) & (pl.col("dose").fill_null(1.0) > 0)
    drugs = [*CATECHOLAMINES, *DOPAMINE, *OTHERS]
    rows = treatments.filter(is_infusion & pl.col("drug").is_in(drugs))
    rows = rows.filter(grid.stay_positions(rows) >= 0)
    rows = rows.sort("stay_id", "start", "end", "drug", "known_at", "dose")
    rows = rows.with_columns(time="start", until="end")
    states = _running_at_changes(grid, rows, options)

    def ran(*chosen: str) -> Bools:
        return ran_long_enough(grid, rows.filter(pl.col("drug").is_in(chosen)), options)

    has_catecholamine, has_other = ran(*CATECHOLAMINES), ran(*DOPAMINE, *OTHERS)
    main, dopamine = pl.col("main"), pl.col("dopamine")
    with_others = pl.col("has_other") | dopamine.is_not_null()
    high = (main > 0.2).cast(pl.Int8) + (main > 0.4).cast(pl.Int8)
    is_single = main.is_null() & ~pl.col("has_other") & dopamine.is_not_null()
    graded = [
        (main.is_not_null(), 2 + high, has_catecholamine),
        (
            main.is_not_null() & with_others,
            pl.min_horizontal(3 + high, pl.lit(4)),
            has_catecholamine & has_other,
        ),
        (~is_single & with_others, pl.lit(2), has_other),
        (
            is_single,
            2 + (dopamine > 20).cast(pl.Int8) + (dopamine > 40).cast(pl.Int8),
            ran(*DOPAMINE),
        ),
    ]
    worst = np.zeros(grid.rows, np.int64)
    is_known = np.zeros(grid.rows, bool)
    for condition, score, counts in graded:
        facts = states.filter(condition).with_columns(
            component=pl.lit("cardiovascular"), score=score.cast(pl.Int8)
        )
        value, has_value = worst_of_day(grid, facts.select(list(FACTS)), options)
        worst = np.maximum(worst, np.where(has_value & counts, value, 0))
        is_known |= has_value & counts
    return worst, is_known


def _running_at_changes(
    grid: HourlyGrid, rows: pl.DataFrame, options: Sepsis3Options
) -> pl.DataFrame:
    """What runs whenever an infusion starts or ends, until the first of it ends.

    Only infusions that are in the record when the change first counts are used.

    Returns:
        (stay_id, time, until, known_at, main, dopamine, has_other): the rates in mcg/kg/min of
        norepinephrine and epinephrine together and of dopamine, null if they do not run.
    """
    changes = pl.concat(
        [
            rows.select("stay_id", "known_at", time="start"),
            rows.select("stay_id", "known_at", time="end"),
        ]
    ).sort("stay_id", "time", "known_at")
    start, end, known = (microseconds(rows[name]) for name in ("start", "end", "known_at"))
    time = microseconds(changes["time"])
    longest = int((end - start).max(initial=0))
    change, infusion = grid.pairs(
        (grid.stay_positions(changes), time - longest, time), (grid.stay_positions(rows), start)
    )
    delay = from_hours(options.charting_delay_hours)
    counts_from = np.maximum(microseconds(changes["known_at"]), time + delay)
    runs = (end[infusion] > time[change]) & (known[infusion] <= counts_from[change])
    running = rows.select("drug", "until", rate=(pl.col("dose") / 60).fill_null(0.0))
    running = running[infusion[runs]].with_columns(change=pl.Series(change[runs]))
    is_main, is_dopamine = pl.col("drug").is_in(CATECHOLAMINES), pl.col("drug").is_in(DOPAMINE)
    states = running.group_by("change").agg(
        pl.col("until").min().cast(TIME),
        main=pl.when(is_main.any()).then(pl.col("rate").filter(is_main).sum().round(6)),
        dopamine=pl.col("rate").filter(is_dopamine).max().round(6),
        has_other=(~is_main & ~is_dopamine).any(),
    )
    numbered = changes.with_columns(change=pl.int_range(pl.len()))
    return numbered.join(states, on="change").sort("change").drop("change")
