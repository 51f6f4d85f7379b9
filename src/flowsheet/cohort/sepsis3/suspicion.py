"""Suspicion of infection: an antibiotic and a culture close together (Singer et al., JAMA
315:801-810, 2016, doi:10.1001/jama.2016.0287; Seymour et al., JAMA 315:762-774, 2016,
doi:10.1001/jama.2016.0288).

A fact of which only the day is known is that day: any moment of it. What came first within it is
not invented: where the other fact falls on the same day, the suspicion begins with the later of the
two begins.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import TIME
from flowsheet.cohort.sepsis3.frames import SUSPICIONS
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.time_grid import HOUR, from_hours, microseconds
from flowsheet.typing import Ints

DAY = 24 * HOUR

Counts = dict[str, int]


def doses(
    grid: HourlyGrid, antibiotics: pl.DataFrame, options: Sepsis3Options
) -> tuple[pl.DataFrame, Counts]:
    """The antibiotics by group and route, one row a dose: (stay_id, drug, time, last, until,
    known_at).

    ``last`` is the last moment at which it may have begun, ``until`` when it was over. What runs,
    or is ordered, for longer than 24 h is a dose every 24 h, each known when it began; a day is
    known when it is over.
    """
    rows = _near(grid, antibiotics, "end", options)
    counts = {"antibiotics": rows.height}
    groups = [name for name, drug in catalogue.drugs().items() if drug.group in options.groups]
    routes = [route.lower() for route in options.excluded_routes]
    rows = rows.filter(pl.col("drug").is_in(groups))
    counts["antibiotics excluded: group"] = counts["antibiotics"] - rows.height
    kept = rows.filter(~pl.col("route").str.to_lowercase().is_in(routes).fill_null(value=False))
    counts["antibiotics excluded: route"] = rows.height - kept.height
    return _daily(kept), counts


def cultures_taken(
    grid: HourlyGrid, cultures: pl.DataFrame, options: Sepsis3Options
) -> tuple[pl.DataFrame, Counts]:
    """The cultures by specimen: (stay_id, time, last, known_at), ``last`` the last moment that it may be from."""
    rows = _near(grid, cultures, "time", options)
    parts = [part.upper() for part in options.excluded_specimens]
    left_out = pl.col("specimen").fill_null("").str.to_uppercase().str.contains_any(parts)
    kept = rows.filter(~left_out) if parts else rows
    over = pl.col("time") + pl.duration(days=1)
    taken = kept.select(
        "stay_id",
        "time",
        last=pl.when("date_only").then(over - pl.duration(microseconds=1)).otherwise("time"),
        known_at=pl.max_horizontal("known_at", pl.when("date_only").then(over).otherwise("time")),
    )
    taken = taken.group_by("stay_id", "time", "last").agg(pl.col("known_at").min()).sort(pl.all())
    return taken, {
        "cultures": rows.height,
        "cultures excluded: specimen": rows.height - kept.height,
    }


def confirmed(
    grid: HourlyGrid, given: pl.DataFrame, options: Sepsis3Options
) -> tuple[pl.DataFrame, Counts]:
    """The doses that belong to a treatment: (stay_id, time, last, known_at), ``known_at`` when that
    was known.

    Some antibiotic is given between ``confirm_after_hours`` (for prophylaxis drugs ``prophylaxis_hours``)
    and ``confirm_within_hours`` after it, counted from the last moment at which it may have begun.
    """
    guarded = pl.col("drug").is_in(options.prophylaxis_drugs).alias("guarded")
    rows = (
        given.group_by("stay_id", "time", "last", guarded)
        .agg(pl.col("known_at").min())
        .sort(pl.all())
    )
    if options.confirm_after_hours > 0:
        known = _confirmed_at(grid, rows, options)
        kept = rows.with_columns(known_at=pl.Series(known).cast(TIME)).filter(known >= 0)
    else:
        kept = rows
    return kept, {
        "doses": rows.height,
        "doses excluded: single or prophylaxis": rows.height - kept.height,
    }


def _confirmed_at(grid: HourlyGrid, rows: pl.DataFrame, options: Sepsis3Options) -> Ints:
    """When each dose was known to be one of several; -1: never."""
    stay = grid.stay_positions(rows)
    time, last, known = (microseconds(rows[name]) for name in ("time", "last", "known_at"))
    prophylaxis = max(options.confirm_after_hours, options.prophylaxis_hours)
    least = np.where(
        rows["guarded"].to_numpy(), from_hours(prophylaxis), from_hours(options.confirm_after_hours)
    )
    of, at = grid.pairs(
        (stay, last + least - DAY, last + from_hours(options.confirm_within_hours)), (stay, time)
    )
    late = last[at] >= last[of] + least[of]
    found = np.full(len(stay), np.iinfo(np.int64).max)
    np.minimum.at(found, of[late], np.maximum(known[of], known[at])[late])
    return np.where(found < np.iinfo(np.int64).max, found, -1)


def suspicions(
    grid: HourlyGrid, treated: pl.DataFrame, taken: pl.DataFrame, options: Sepsis3Options
) -> pl.DataFrame:
    """The suspicions whose window meets the stay, columns ``SUSPICIONS``; of several at one time the first known."""
    stay, other = grid.stay_positions(treated), grid.stay_positions(taken)
    given, given_last, given_known = (
        microseconds(treated[name]) for name in ("time", "last", "known_at")
    )
    drawn, drawn_last, drawn_known = (
        microseconds(taken[name]) for name in ("time", "last", "known_at")
    )
    after, before = (
        from_hours(options.antibiotic_first_hours),
        from_hours(options.culture_first_hours),
    )
    of, at = grid.pairs((stay, given - before - DAY, given_last + after), (other, drawn))
    culture_first = (drawn[at] <= given_last[of]) & (given[of] <= drawn_last[at] + before)
    antibiotic_first = (given[of] <= drawn_last[at]) & (drawn[at] <= given_last[of] + after)
    close = culture_first | antibiotic_first
    of, at = of[close], at[close]
    together = (given[of] <= drawn_last[at]) & (drawn[at] <= given_last[of])
    either = np.maximum(given[of], drawn[at]), np.minimum(given[of], drawn[at])
    time = np.where(together, *either)
    window = (time - from_hours(options.window_before_hours) <= grid.discharged[stay[of]]) & (
        time + from_hours(options.window_after_hours) >= grid.admitted[stay[of]]
    )
    found = pl.DataFrame(
        {
            "stay_id": grid.stay_id[stay[of]],
            "time": time,
            "antibiotic_time": given[of],
            "culture_time": drawn[at],
            "known_at": np.maximum(given_known[of], drawn_known[at]),
        }
    )
    found = found.filter(window).cast(pl.Schema(SUSPICIONS))
    order = ["stay_id", "time", "known_at", "antibiotic_time", "culture_time"]
    return found.sort(order).unique(["stay_id", "time"], keep="first", maintain_order=True)


def _near(grid: HourlyGrid, rows: pl.DataFrame, end: str, options: Sepsis3Options) -> pl.DataFrame:
    """The rows that can matter to their stay."""
    stay = grid.stay_positions(rows)
    reach = _reach(options)
    begun = microseconds(rows["time"]) <= grid.discharged[stay] + reach
    over = (
        np.maximum(microseconds(rows[end]), microseconds(rows["time"]))
        >= grid.admitted[stay] - reach
    )
    bounds = {
        "from": pl.Series(grid.admitted[stay] - reach),
        "to": pl.Series(grid.discharged[stay] + reach),
    }
    return rows.with_columns(**bounds).filter((stay >= 0) & begun & over)


def _reach(options: Sepsis3Options) -> int:
    """How far from the stay a fact may lie and still say something of it: every span one after another."""
    spans = (
        *(
            options.culture_first_hours,
            options.antibiotic_first_hours,
            options.window_before_hours,
            options.window_after_hours,
        ),
        *(options.confirm_within_hours, options.end_antibiotic_free_hours),
    )
    return from_hours(sum(spans)) + 2 * DAY


def _daily(rows: pl.DataFrame) -> pl.DataFrame:
    time, end = (pl.col(name).cast(pl.Int64) for name in ("time", "end"))
    first = pl.max_horizontal(pl.lit(0), (pl.col("from") - time) // DAY)
    stop = pl.min_horizontal((end - time + DAY - 1) // DAY, (pl.col("to") - time) // DAY + 1)
    pieces = rows.with_columns(
        piece=pl.int_ranges(first, pl.max_horizontal(first + 1, stop))
    ).explode("piece")
    begin = time + pl.col("piece") * DAY
    over = begin + DAY
    day = pl.col("date_only")
    pieces = pieces.with_columns(
        begin=begin,
        last=pl.when(day).then(over - 1).otherwise(begin),
        until=pl.when(day)
        .then(over)
        .otherwise(pl.max_horizontal(begin, pl.min_horizontal(over, end))),
        known=pl.max_horizontal(
            pl.col("known_at").cast(pl.Int64), pl.when(day).then(over).otherwise(begin)
        ),
    )
    return pieces.select(
        "stay_id",
        "drug",
        time=pl.col("begin").cast(TIME),
        last=pl.col("last").cast(TIME),
        until=pl.col("until").cast(TIME),
        known_at=pl.col("known").cast(TIME),
    )
