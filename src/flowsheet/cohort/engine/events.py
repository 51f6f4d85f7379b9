"""Build the events of some stays: the steps that depend on several rows of a stay.

Duplicates are dropped, volumes are summed up, the coma score's total is completed, and venous blood
gases and weights in pounds are excluded.
"""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.engine.blood_gases import exclude_venous
from flowsheet.cohort.engine.coma_scores import complete_coma_scores
from flowsheet.cohort.engine.event_reader import EVENT_COLUMNS
from flowsheet.cohort.engine.exclusions import ExclusionLog
from flowsheet.cohort.engine.item_map import PARTS, ItemMap
from flowsheet.cohort.engine.options import DatabaseOptions
from flowsheet.cohort.engine.oxygen import derive_fio2
from flowsheet.cohort.engine.sorting import equals_previous, sort_by_packed_key
from flowsheet.cohort.schema import EVENTS, empty_table
from flowsheet.cohort.units import LINEAR_CONVERSIONS, linear

_ROUNDING = 0.01
"""Share of its value by which a copied result may differ from the laboratory's."""
_DOUBTFUL_KG = 180.0
"""A higher weight may be one in pounds."""


def build_events(
    rows: pl.DataFrame,
    stay_ids: pl.Series,
    items: ItemMap,
    options: DatabaseOptions,
    log: ExclusionLog,
) -> pl.DataFrame:
    """Build the contract's events of some stays.

    Of several values of one variable at one time, the one that was in the record first is kept,
    then the one whose item is first in the catalogue.

    Args:
        rows: all rows of the stays, with the columns ``EVENT_COLUMNS``.
        stay_ids: ids of all selected stays, by number.
        items: the database's items.
        options: how the coma score is read, ``lab_delay_hours`` and ``fio2_from_flow``.
        log: receives the excluded rows.

    Returns:
        Events with one value for each stay, time and variable, in the contract's order.
    """
    if rows.is_empty():
        return empty_table("events")
    rows = rows.with_columns(items.items.select("part", "order", "is_result")[rows["code"]])
    rows = _take_times_of_copies(rows, options, log)
    is_rest = pl.col("part") == "rest"
    others = rows.filter(~is_rest)
    parts = {part: others.filter(pl.col("part") == part) for part in PARTS.categories}
    parts["rest"] = rows.filter(is_rest)
    columns = [*EVENT_COLUMNS, "order"]
    if options.fio2_from_flow:
        charted = parts["rest"].select(columns)
        parts["rest"] = pl.concat([charted, derive_fio2(charted, items)])
    specimens = _drop_repeats(parts["specimen"], log)
    processed = [
        parts["rest"],
        exclude_venous(parts["arterial"], specimens, parts["rest"], items, log),
        _sum_volumes(_drop_repeats(parts["volume"], log), items, log),
        complete_coma_scores(_drop_repeats(parts["coma"], log), items, options, log),
        _check_weights(parts["weight"], items, log),
    ]
    combined = pl.concat([part.select(columns) for part in processed], rechunk=True)
    events = _dedupe(combined, log)
    events = events.with_columns(
        stay_id=stay_ids[events["stay"]], variable=items.names_by_order[events["order"] - 1]
    )
    return events.select(list(EVENTS)).cast(pl.Schema(EVENTS))


def _take_times_of_copies(
    rows: pl.DataFrame, options: DatabaseOptions, log: ExclusionLog
) -> pl.DataFrame:
    """Results of the laboratory with the time at which their copy in another table was stored.

    Args:
        rows: results, their copies, and all other rows.
        options: with ``lab_delay_hours``, the copies are not used.
        log: receives the copies.

    Returns:
        The rows without the copies and without ``is_result``.
    """
    is_copy = pl.col("part") == "copy"
    reason = "chartevents: copy of a laboratory result (used for its time of storage)"
    copies = rows.filter(is_copy)
    rows = log.exclude(rows, is_copy, reason)
    if copies.is_empty() or options.lab_delay_hours is not None:
        return rows.drop("is_result")
    copies = copies.select("stay", "time", "order", _stored="known_at", _copied="value")
    results = rows.with_row_index("_row").filter("is_result")
    pairs = results.join(copies, on=["stay", "time", "order"])
    difference = (pl.col("value") - pl.col("_copied")).abs()
    pairs = pairs.filter(difference <= _ROUNDING * pl.col("value").abs())
    stored = pairs.group_by("_row").agg(pl.col("_stored").min())
    known_at = rows["known_at"].scatter(stored["_row"], stored["_stored"])
    return rows.drop("is_result").with_columns(known_at)


def _drop_repeats(rows: pl.DataFrame, log: ExclusionLog) -> pl.DataFrame:
    """One row per stay, time and item: the first in the record, then the smallest value."""
    rows = rows.sort("stay", "time", "code", "known_at", "value")
    return log.exclude(rows, equals_previous("stay", "time", "code"), "charted more than once")


def _dedupe(rows: pl.DataFrame, log: ExclusionLog) -> pl.DataFrame:
    """One row per stay, time and variable, in the contract's order."""

    def dedupe_tied(tied: pl.DataFrame) -> pl.DataFrame:
        is_repeat = equals_previous("stay", "time", "code")
        tied = log.exclude(tied, is_repeat, "charted more than once")
        is_second_item = equals_previous("stay", "time", "order")
        return log.exclude(tied, is_second_item, "charted with another item of the same variable")

    tie_columns = ["time", "known_at", "code", "value"]
    return sort_by_packed_key(rows, ("stay", "time", "order"), tie_columns, dedupe_tied)


def _sum_volumes(rows: pl.DataFrame, items: ItemMap, log: ExclusionLog) -> pl.DataFrame:
    """The sum of all volumes of one variable that were charted at one time."""
    rows = rows.with_columns(high=items.items["high"][rows["code"]])
    sums = rows.group_by("stay", "time", "order", maintain_order=True).agg(
        pl.col("known_at", "high").max(), pl.col("code").first(), value=pl.col("value").sum()
    )
    sums = sums.with_columns(name=items.names_by_order[sums["order"] - 1])
    reason = pl.lit("implausible: sum of ") + pl.col("name")
    return log.exclude_by_reason(sums, pl.col("value") > pl.col("high"), reason)


def _check_weights(rows: pl.DataFrame, items: ItemMap, log: ExclusionLog) -> pl.DataFrame:
    """Weights in kg, without those that were charted in pounds as if they were kg.

    A weight above ``_DOUBTFUL_KG`` is compared with the last lower one that was in the record
    before it: it is kept if it is about the same, taken for pounds if it is then about the same,
    and otherwise excluded. Without a lower one before it, it is kept in MetaVision only.
    """
    details = items.items.select("convert", "system")[rows["code"]]
    rows = rows.with_columns(details).sort("stay", "known_at", "time", "code", "value")
    value = pl.col("value")
    is_doubtful = (pl.col("convert") == "none") & (value > _DOUBTFUL_KG)
    lower = pl.when(~is_doubtful).then(value).shift(1).forward_fill().over("stay")
    rows = rows.with_columns(
        _is_doubtful=is_doubtful,
        _lower=lower,
        _pounds=linear(value, LINEAR_CONVERSIONS["pounds"]).round(6),
    )
    is_kept = _is_about("value") | (pl.col("_lower").is_null() & (pl.col("system") != "carevue"))
    reason = "weight in pounds charted as kg, or not confirmed"
    is_wrong = pl.col("_is_doubtful") & ~is_kept & ~_is_about("_pounds")
    rows = log.exclude(rows, is_wrong, reason)
    is_pounds = pl.col("_is_doubtful") & ~is_kept
    return rows.with_columns(value=pl.when(is_pounds).then("_pounds").otherwise("value"))


def _is_about(weight: str) -> pl.Expr:
    ratio = pl.col(weight) / pl.col("_lower")
    return ratio.is_between(0.75, 1.25).fill_null(value=False)
