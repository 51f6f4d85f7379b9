"""Build the events of some stays: the steps that depend on several rows of a stay.

Duplicates are dropped, volumes are summed up, the coma score's total is completed, and blood
gases of venous blood are excluded.
"""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.schema import EVENTS, empty_table
from flowsheet.cohort.sources.mimic3.blood_gases import exclude_venous
from flowsheet.cohort.sources.mimic3.event_reader import EVENT_COLUMNS
from flowsheet.cohort.sources.mimic3.event_values import INTUBATED
from flowsheet.cohort.sources.mimic3.exclusions import ExclusionLog
from flowsheet.cohort.sources.mimic3.item_map import PARTS, load_items, load_names_by_order
from flowsheet.cohort.sources.mimic3.options import Mimic3Options
from flowsheet.cohort.sources.mimic3.sorting import equals_previous, sort_by_packed_key

_ROUNDING = 0.01
"""Share of its value by which a copied result may differ from the laboratory's."""


def build_events(
    rows: pl.DataFrame, stay_ids: pl.Series, options: Mimic3Options, log: ExclusionLog
) -> pl.DataFrame:
    """Build the contract's events of some stays.

    Of several values of one variable at one time, the one that was in the record first is kept,
    then the one whose item is first in the catalogue.

    Args:
        rows: all rows of the stays, with the columns ``EVENT_COLUMNS``.
        stay_ids: ids of all selected stays, by number.
        options: how the coma score of intubated patients is read, and ``lab_delay_hours``.
        log: receives the excluded rows.

    Returns:
        Events with one value for each stay, time and variable, in the contract's order.
    """
    if rows.is_empty():
        return empty_table("events")
    rows = rows.with_columns(load_items().select("part", "order", "is_result")[rows["code"]])
    rows = _take_times_of_copies(rows, options, log)
    is_rest = pl.col("part") == "rest"
    others = rows.filter(~is_rest)
    parts = {part: others.filter(pl.col("part") == part) for part in PARTS.categories}
    parts["rest"] = rows.filter(is_rest)
    specimens = _drop_repeats(parts["specimen"], log)
    processed = [
        parts["rest"],
        exclude_venous(parts["arterial"], specimens, parts["rest"], log),
        _sum_volumes(_drop_repeats(parts["volume"], log), log),
        _complete_coma_scores(_drop_repeats(parts["coma"], log), options, log),
    ]
    columns = [*EVENT_COLUMNS, "order"]
    combined = pl.concat([part.select(columns) for part in processed], rechunk=True)
    events = _dedupe(combined, log)
    events = events.with_columns(
        stay_id=stay_ids[events["stay"]], variable=load_names_by_order()[events["order"] - 1]
    )
    return events.select(list(EVENTS)).cast(pl.Schema(EVENTS))


def _take_times_of_copies(
    rows: pl.DataFrame, options: Mimic3Options, log: ExclusionLog
) -> pl.DataFrame:
    """Results of the laboratory with the time at which their copy in CHARTEVENTS was stored.

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


def _sum_volumes(rows: pl.DataFrame, log: ExclusionLog) -> pl.DataFrame:
    """The sum of all volumes of one variable that were charted at one time."""
    rows = rows.with_columns(high=load_items()["high"][rows["code"]])
    sums = rows.group_by("stay", "time", "order", maintain_order=True).agg(
        pl.col("known_at", "high").max(), pl.col("code").first(), value=pl.col("value").sum()
    )
    sums = sums.with_columns(name=load_names_by_order()[sums["order"] - 1])
    reason = pl.lit("implausible: sum of ") + pl.col("name")
    return log.exclude_by_reason(sums, pl.col("value") > pl.col("high"), reason)


def _complete_coma_scores(
    rows: pl.DataFrame, options: Mimic3Options, log: ExclusionLog
) -> pl.DataFrame:
    """Add the coma score's total where its parts were charted, and treat intubated patients.

    Args:
        rows: the score's parts and charted totals.
        options: ``intubated_verbal``.
        log: receives verbal responses of intubated patients that are excluded.
    """
    rows = rows.join(load_items().select("code", "name"), on="code", maintain_order="left")
    is_total = pl.col("name") == "gcs"
    is_intubated_verbal = (pl.col("name") == "vgcs") & (pl.col("value") == INTUBATED)
    parts = rows.filter(~is_total)
    sums = _sum_coma_parts(parts, is_intubated_verbal)
    if options.intubated_verbal == "as_charted":
        sums = sums.with_columns(value=pl.col("value") + pl.col("intubated"))
        sums = sums.filter(pl.col("n_parts") == 3)
    elif options.intubated_verbal == "normal":
        sums = sums.with_columns(value=pl.when("intubated").then(15.0).otherwise("value"))
    charted_totals = rows.filter(is_total).join(
        sums, on=["stay", "time"], how="anti", maintain_order="left"
    )
    if options.intubated_verbal == "missing":
        sums = sums.filter(~pl.col("intubated"))
    if options.intubated_verbal == "as_charted":
        value = pl.when(is_intubated_verbal).then(1.0).otherwise("value")
        parts = parts.with_columns(value=value)
    else:
        reason = "verbal response of an intubated patient"
        parts = log.exclude(parts, is_intubated_verbal, reason)
    total = load_items().filter(is_total).head(1).select("code", "name", "order", "part")
    totals = sums.join(total, how="cross").select(parts.columns)
    return pl.concat([parts, charted_totals, totals])


def _sum_coma_parts(parts: pl.DataFrame, is_intubated_verbal: pl.Expr) -> pl.DataFrame:
    """Sums of the parts charted at one time, where there are all three or one is intubated."""
    sums = parts.group_by("stay", "time", maintain_order=True).agg(
        pl.col("known_at").max(),
        n_parts=pl.col("name").n_unique(),
        value=pl.col("value").sum(),
        intubated=is_intubated_verbal.any(),
    )
    return sums.filter((pl.col("n_parts") == 3) | pl.col("intubated"))
