"""States that last from one row to another: a ventilator or a dialysis that runs.

The code of the start names in the mapping, as ``ended_by``, the code of its end. While the state
lasts, its value is repeated, as that of a procedure in raw tables is: who looks at the last hours
finds it, however long ago it began. At each repetition it is known that no end has come before, so
nothing looks ahead.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import polars as pl

from flowsheet.cohort.engine.event_reader import PROCEDURE_INTERVAL
from flowsheet.cohort.sources.meds.measurements import MEASURED

_KEY = ["stay_id", "end_row"]
_VARIABLE = ["stay_id", "variable"]
_RUNS = 0.5
"""From this value on the state is on."""
_MOMENT = timedelta(microseconds=1)


def repeat_states(
    measured: pl.DataFrame, stays: pl.DataFrame, exclusions: Counter[str]
) -> pl.DataFrame:
    """The measurements, with the states repeated every ``PROCEDURE_INTERVAL`` while they last.

    A state lasts until the next row of its end, or until a 0 of the variable that is the end of no
    state (an extubation); without one, until the discharge.

    Args:
        measured: columns ``MEASURED``; all rows of their stays.
        stays: the contract's table.
        exclusions: receives the number of states without an end.
    """
    starts = measured.filter(pl.col("end_row").is_not_null(), pl.col("value") >= _RUNS)
    if starts.is_empty():
        return measured
    off = measured.filter(pl.col("value") < _RUNS).with_columns(end_row="mapping_row")
    end_rows = starts.select("end_row").unique()
    ends = off.join(end_rows, on="end_row", how="semi")
    others = off.join(end_rows, on="end_row", how="anti")
    starts = _find_next(allow_ends_at_once(starts, ends, _KEY), ends, _KEY, "_end")
    after = starts.with_columns(_from=pl.col("time") + _MOMENT)
    starts = _find_next(after, others, _VARIABLE, "_off")
    starts = starts.join(stays.select("stay_id", "discharged_at"), on="stay_id")
    is_open = pl.all_horizontal(pl.col("_end", "_off").is_null())
    reason = "starts without an end: until the discharge (rows kept)"
    exclusions[reason] += starts.filter(is_open).height
    end = pl.min_horizontal("_end", "_off", "discharged_at")
    first = pl.col("time").dt.offset_by(PROCEDURE_INTERVAL)
    lasting = starts.with_columns(end=end).filter(first < pl.col("end"))
    times = pl.datetime_ranges(first, "end", interval=PROCEDURE_INTERVAL, closed="left")
    repeated = lasting.with_columns(time=times).explode("time")
    repeated = repeated.with_columns(known_at=pl.max_horizontal("time", "known_at"))
    return pl.concat([measured, repeated.select(list(MEASURED))])


def allow_ends_at_once(starts: pl.DataFrame, ends: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """The starts with ``_from``, the first moment at which their end may be.

    An end at the time of the start ends what runs before, if anything does; otherwise the start
    itself.

    Args:
        starts: rows with ``key`` and time.
        ends: rows with ``key`` and time.
        key: what a start and its end have in common.
    """
    changes = pl.concat(
        [
            starts.select(*key, "time", change=pl.lit(1)),
            ends.select(*key, "time", change=pl.lit(-1)),
        ]
    )
    sums = changes.group_by(*key, "time").agg(pl.col("change").sum()).sort(*key, "time")
    running = pl.col("change").cum_sum().shift(1, fill_value=0).over(key)
    sums = sums.select(*key, "time", _running=running)
    joined = starts.join(sums, on=[*key, "time"], how="left", maintain_order="left")
    after = pl.when(pl.col("_running") > 0).then(pl.col("time") + _MOMENT).otherwise("time")
    return joined.with_columns(_from=after)


def _find_next(
    starts: pl.DataFrame, ends: pl.DataFrame, key: list[str], column: str
) -> pl.DataFrame:
    """The starts with the time of the first end from ``_from`` on; null if there is none.

    Args:
        starts: rows with ``key`` and ``_from``.
        ends: rows with ``key`` and time.
        key: what both have in common.
        column: receives the time.
    """
    return starts.sort("_from").join_asof(
        ends.select(*key, pl.col("time").alias(column)).sort(column),
        left_on="_from",
        right_on=column,
        by=key,
        strategy="forward",
        check_sortedness=False,
    )
