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


def worst_of_day(
    grid: HourlyGrid, facts: pl.DataFrame, options: Sepsis3Options
) -> tuple[Ints, Bools]:
    """The worst score of each hour's last 24 hours, and whether there is any; shape (N,) each."""
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
