"""Events of a MEDS data set: the measurements in its rows, in the catalogue's units."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.blood_gases import find_venous
from flowsheet.cohort.engine.coma_scores import TOGETHER, sum_parts
from flowsheet.cohort.engine.item_map import COMA_PARTS, COMA_TOTAL
from flowsheet.cohort.schema import EVENTS
from flowsheet.cohort.sources.meds.codes import IF_NUMBER, UNKNOWN_SPECIMEN, convert_values

MEASURED: dict[str, pl.DataType] = {
    **EVENTS,
    "mapping_row": pl.UInt32(),
    "end_row": pl.UInt32(),
    "may_be_venous": pl.Boolean(),
}
"""Events before one of several at the same time is selected."""


DRAW_DAYS = 7
"""How long before its result a specimen was drawn, at most: 99.9% come within 3.1 days in the demo
of MIMIC-IV."""


def add_known_at(rows: pl.DataFrame, exclusions: Counter[str]) -> pl.DataFrame:
    """Set ``known_at``: the time of storage, else ``time`` and the mapping's delay.

    It is never before ``time``. Rows without ``time`` are dropped.
    """
    exclusions["measurements and drugs without a time"] += rows["time"].null_count()
    delay = pl.duration(microseconds=(pl.col("delay_hours") * 3.6e9).round().cast(pl.Int64))
    known_at = pl.coalesce("known_at", pl.col("time") + delay)
    rows = rows.drop_nulls("time").with_columns(known_at=known_at)
    return rows.with_columns(pl.max_horizontal("time", "known_at").alias("known_at"))


def move_to_draws(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the results of draws at the time of their draw; they stay known when they were.

    It is the last draw for the same test in the ``DRAW_DAYS`` before the result. In the demo of
    MIMIC-IV that is the right one for 99.5% of the results. A draw has one result; a later one
    without a draw of its own stays at its time.
    """
    draws = rows.filter(kind="draw").select("subject_id", "result_row", drawn="time")
    if draws.is_empty():
        return rows
    matched = rows.sort("time").join_asof(
        draws.unique().sort("drawn"),
        left_on="time",
        right_on="drawn",
        by_left=["subject_id", "mapping_row"],
        by_right=["subject_id", "result_row"],
        tolerance=timedelta(days=DRAW_DAYS),
        check_sortedness=False,
    )
    is_first = pl.col("time") == pl.col("time").min().over("subject_id", "mapping_row", "drawn")
    drawn = pl.when(is_first).then("drawn")
    return matched.with_columns(time=pl.coalesce(drawn, "time")).select(rows.columns)


def convert_measurements(rows: pl.DataFrame, exclusions: Counter[str]) -> pl.DataFrame:
    """Rows of kind ``variable``, converted to ``MEASURED``; implausible values are excluded."""
    is_zero = pl.col("convert").is_in(IF_NUMBER) & (pl.col("value") == 0)
    exclusions["zeros that tell of no state that runs"] += rows.filter(is_zero).height
    rows = rows.filter(~is_zero.fill_null(value=False))
    value = convert_values(pl.col("value"), pl.col("convert")).fill_nan(None)
    values = rows.with_columns(value=value, variable="name").drop_nulls("value")
    exclusions["measurements without a number"] += rows.height - values.height
    values = values.join(catalogue.ranges(), on="variable", how="left", maintain_order="left")
    # the range of a negated variable refers to the value as it was charted
    charted = pl.when(pl.col("convert") == "negate").then(-pl.col("value")).otherwise("value")
    plausible = values.filter(charted.is_between("low", "high"))
    exclusions["implausible values"] += values.height - plausible.height
    plausible = plausible.with_columns(may_be_venous=pl.col("convert") == UNKNOWN_SPECIMEN)
    return plausible.select(list(MEASURED)).cast(pl.Schema(MEASURED))


def select_events(measured: pl.DataFrame, exclusions: Counter[str]) -> pl.DataFrame:
    """One event for each stay, time and variable.

    It is the value that was known first, then the one of the code that is first in the mapping.
    Volumes of fluid with several codes at the same time are summed.
    """
    key = ["stay_id", "time", "variable"]
    ordered = measured.sort("known_at", "mapping_row", "value")
    per_code = ordered.unique([*key, "mapping_row"], keep="first", maintain_order=True)
    kinds = ("input", "output")
    volumes = [v.name for v in catalogue.variables().values() if v.kind in kinds]
    is_volume = pl.col("variable").is_in(volumes)
    by_key = per_code.filter(is_volume).group_by(key)
    sums = by_key.agg(pl.col("known_at").max(), pl.col("value").sum())
    others = per_code.filter(~is_volume)
    first = others.unique(key, keep="first", maintain_order=True)
    repeated = measured.height - per_code.height
    exclusions["repeated values of a code at the same time"] += repeated
    less_preferred = others.height - first.height
    exclusions["values of less preferred codes at the same time"] += less_preferred
    first = _exclude_venous(first, exclusions)
    events = pl.concat([sums.select(list(EVENTS)), first.select(list(EVENTS))])
    return events.sort(key).cast(pl.Schema(EVENTS))


def add_coma_totals(events: pl.DataFrame) -> pl.DataFrame:
    """The events with the coma score's total, at the times at which its three parts are known.

    A sum is preferred to a total that was charted at the same time.
    """
    parts = events.filter(pl.col("variable").is_in(COMA_PARTS))
    sums = sum_parts(parts.rename({"stay_id": "stay", "variable": "name"}), TOGETHER)
    totals = sums.select(
        "time", "known_at", "value", stay_id="stay", variable=pl.lit(COMA_TOTAL)
    ).select(list(EVENTS))
    key = ["stay_id", "time", "variable"]
    others = events.join(totals, on=key, how="anti", maintain_order="left")
    return pl.concat([others, totals.cast(pl.Schema(EVENTS))]).sort(key)


def _exclude_venous(events: pl.DataFrame, exclusions: Counter[str]) -> pl.DataFrame:
    """The events without pO2 and saturation of blood gases that may be venous and look so."""
    po2 = events.filter(pl.col("may_be_venous"), variable="po2")
    oximetry = events.filter(variable="o2sat")
    venous = find_venous(po2, oximetry, "stay_id").with_columns(_is_venous=True)
    rows = events.join(venous, on=["stay_id", "time"], how="left", maintain_order="left")
    is_venous = pl.col("may_be_venous") & pl.col("_is_venous").fill_null(value=False)
    kept = rows.filter(~is_venous).drop("_is_venous")
    reason = "blood gases of an unknown specimen that look venous"
    exclusions[reason] += events.height - kept.height
    return kept
