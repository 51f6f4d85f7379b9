"""Graded facts of the organs, and the worst of them in the last 24 hours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from flowsheet.cohort.schema import TIME
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.time_grid import HOUR, from_hours, microseconds
from flowsheet.typing import Bools, Ints

DAY = 24 * HOUR

FACTS: dict[str, pl.DataType] = {
    "component": pl.String(),
    "stay_id": pl.Int64(),
    "time": TIME,
    "until": TIME,  # equal to time for a single measurement
    "known_at": TIME,
    "score": pl.Int8(),
}

Score = tuple[Ints, Bools]
"""The score of each hour, 0 if it is unknown, and whether it is known; shape (N,) each."""


def worst_of_day(grid: HourlyGrid, facts: pl.DataFrame, options: Sepsis3Options) -> Score:
    """The worst score of each hour's last 24 hours."""
    stay = grid.stay_positions(facts)
    time, until, known_at = (microseconds(facts[name]) for name in ("time", "until", "known_at"))
    start = np.maximum(time, known_at - from_hours(options.charting_delay_hours))
    stop = until + DAY
    score = facts["score"].to_numpy()

    def hours_with(lowest: int) -> Bools:
        chosen = (stay >= 0) & (score >= lowest)
        return grid.covered(stay[chosen], start[chosen], stop[chosen])

    worst = np.sum([hours_with(lowest) for lowest in range(1, 5)], axis=0, dtype=np.int64)
    return np.asarray(worst), hours_with(0)


def grade_variable(
    grid: HourlyGrid,
    events: pl.DataFrame,
    variable: str,
    score: pl.Expr,
    options: Sepsis3Options,
) -> Score:
    """The worst score of a variable's values in the last 24 hours.

    Args:
        grid: The stays.
        events: The contract's table.
        variable: The variable.
        score: Of each value.
        options: The definition's parameters.
    """
    return worst_of_day(grid, as_facts(variable, events.filter(variable=variable), score), options)


def worse_of(*scores: Score) -> Score:
    """The highest of the scores at each hour; it is known if any of them is."""
    highest = np.max([score for score, _ in scores], axis=0)
    is_known = np.any([known for _, known in scores], axis=0)
    return np.asarray(highest), np.asarray(is_known)


def first_known_of(preferred: Score, other: Score) -> Score:
    """The preferred score where it is known, otherwise the other one."""
    score = np.where(preferred[1], preferred[0], other[0])
    return score, preferred[1] | other[1]


def as_facts(
    component: str, rows: pl.DataFrame, score: pl.Expr, until: str = "time"
) -> pl.DataFrame:
    """The rows as ``FACTS`` of the component.

    Args:
        component: Of the score.
        rows: stay_id, time, known_at, and what ``score`` and ``until`` need.
        score: The score of a row.
        until: The column with the time until which the score holds.
    """
    facts = rows.select(
        "stay_id",
        "time",
        "known_at",
        component=pl.lit(component),
        until=pl.col(until),
        score=score.cast(pl.Int8),
    )
    return facts.select(list(FACTS))


def count_below(value: pl.Expr, bounds: Sequence[float]) -> pl.Expr:
    """How many of the bounds are greater than the value."""
    return pl.sum_horizontal((value < bound).cast(pl.Int8) for bound in bounds)


def count_reached(value: pl.Expr, bounds: Sequence[float]) -> pl.Expr:
    """How many of the bounds are less than or equal to the value."""
    return pl.sum_horizontal((value >= bound).cast(pl.Int8) for bound in bounds)


def count_exceeded(value: pl.Expr, bounds: Sequence[float]) -> pl.Expr:
    """How many of the bounds are less than the value; 0 if the value is null."""
    return pl.sum_horizontal(
        (value > bound).fill_null(value=False).cast(pl.Int8) for bound in bounds
    )
