"""Rates that are charted from time to time, as infusions with a start and an end.

A rate lasts until the next row of its order, or until another infusion of the drug begins by the
same route: a new order replaces the old one, whose stop is charted minutes later or never. In
databases without orders it is the next row of the drug. Drugs that are counted in mL (fluids, blood
products, nutrition) run in several lines at once, and their orders end by their own rows alone. No
rate lasts longer than ``charted_rate_hours``.

The rule looks at no row after the one that begins: whether the old order is charted again is not
known then. An order that is charted again later runs from there beside the other one.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.engine.exclusions import ExclusionLog
from flowsheet.cohort.engine.item_map import ItemMap
from flowsheet.cohort.engine.options import DatabaseOptions

_INFUSION = ["stay_id", "substance", "route"]
"""Of which one infusion replaces another."""
_ORDER = ["stay_id", "substance", "order_id", "line"]
"""Of which one row replaces another: ``line`` is the route, where rows name no order."""
_VOLUME = "mL"
_MOMENT = timedelta(microseconds=1)


def prepare_charted_rates(
    rows: pl.DataFrame,
    table: str,
    items: ItemMap,
    options: DatabaseOptions,
    log: ExclusionLog,
) -> pl.DataFrame:
    """The rows with start, end, known_at, number, uom and is_rate: single doses, then infusions.

    Args:
        rows: spilled rows of a table of charted rates, with ``stay_id``.
        table: the table's name.
        items: the database's items.
        options: ``charted_rate_hours``.
        log: receives the excluded rows.
    """
    has_none = pl.all_horizontal(pl.col("rate", "amount").is_null()) & ~pl.col("is_stop")
    rows = log.exclude(rows, has_none, f"{table}: no amount or rate")
    rows = rows.with_columns(known_at=pl.max_horizontal("time", "stored_at"))
    amounts = rows.filter(pl.col("rate").is_null() & pl.col("amount").is_not_null())
    amounts = log.exclude(amounts, pl.col("amount") <= 0, f"{table}: no positive amount")
    rates = rows.filter(pl.col("rate").is_not_null() | pl.col("is_stop"))
    rates = _keep_one_rate(_add_substances(rates, items), table, log)
    longest = timedelta(seconds=round(options.charted_rate_hours * 3600))
    amounts = _exclude_sums_of_rates(amounts, rates, longest, table, log)
    amounts = amounts.with_columns(start="time", end="time", number="amount", uom="amount_unit")
    amounts = amounts.with_columns(is_rate=pl.lit(value=False))
    infusions = _find_ends(rates, longest)
    _count_open_ends(infusions, longest, table, log)
    infusions = infusions.with_columns(start="time", number="rate")
    infusions = infusions.with_columns(uom="rate_unit", is_rate=pl.lit(value=True))
    return pl.concat([amounts, infusions.select(amounts.columns)])


def _add_substances(rates: pl.DataFrame, items: ItemMap) -> pl.DataFrame:
    """The rates with ``substance`` (the drug; of drugs in mL the item), ``is_volume``, ``line``."""
    units = catalogue.drug_units().select("drug", is_volume=pl.col("known_unit") == _VOLUME)
    drugs = items.items.select("code", drug="name").join(units, on="drug")
    item = pl.format("{} {}", "drug", "code")
    drugs = drugs.select(
        "code", "is_volume", substance=pl.when("is_volume").then(item).otherwise("drug")
    )
    rates = rates.with_columns(line=pl.when(pl.col("order_id").is_null()).then("route"))
    return rates.join(drugs, on="code", maintain_order="left")


def _keep_one_rate(rates: pl.DataFrame, table: str, log: ExclusionLog) -> pl.DataFrame:
    """One rate per order and time, sorted by them.

    A stop ends what is charted of the item at the same time, but for a start: there one bag
    replaces another. Of several rates, it is that of the item that is first in the catalogue, and
    of one item the highest.
    """
    keys = [*_ORDER, "time"]
    is_ended = pl.col("is_stop").any().over(*keys, "code") & ~pl.col("is_start")
    rates = rates.with_columns(
        rate=pl.when(~is_ended & ~pl.col("is_stop")).then("rate").otherwise(0.0)
    )
    order = [*keys, pl.col("rate") <= 0, "code", -pl.col("rate"), "rate_unit", "known_at"]
    rates = rates.sort(order)
    is_other = pl.all_horizontal(pl.col(key).eq_missing(pl.col(key).shift(1)) for key in keys)
    reason = f"{table}: lower of several rates charted at one time"
    return log.exclude(rates, is_other, reason)


def _find_ends(rates: pl.DataFrame, longest: timedelta) -> pl.DataFrame:
    """The positive rates with their ``end``.

    Args:
        rates: one rate per order and time, sorted.
        longest: how long a rate lasts at most.
    """
    is_running = pl.col("rate") > 0
    begins = is_running & ~(is_running.shift(1, fill_value=False).over(_ORDER))
    next_row = pl.col("time").shift(-1).over(_ORDER)
    rates = rates.with_columns(_next=next_row, _begins=begins)
    # another infusion that begins at the same time as this one runs beside it
    after = pl.when("_begins").then(pl.col("time") + _MOMENT).otherwise("time")
    beginnings = rates.filter("_begins", ~pl.col("is_volume"))
    beginnings = beginnings.select(*_INFUSION, _replaced="time")
    running = rates.filter(is_running).with_columns(_after=after).sort("_after")
    running = running.join_asof(
        beginnings.sort("_replaced"),
        left_on="_after",
        right_on="_replaced",
        by=_INFUSION,
        strategy="forward",
        check_sortedness=False,
    )
    end = pl.min_horizontal("_next", "_replaced", pl.col("time") + longest)
    return running.with_columns(end=end).filter(pl.col("end") > pl.col("time"))


def _count_open_ends(
    infusions: pl.DataFrame, longest: timedelta, table: str, log: ExclusionLog
) -> None:
    """Count the rates that no later row has ended within the longest time."""
    is_cut = pl.col("end") == pl.col("time") + longest
    is_ended = pl.min_horizontal("_next", "_replaced") == pl.col("end")
    n_open = infusions.filter(is_cut & ~is_ended.fill_null(value=False)).height
    if n_open:
        hours = longest.total_seconds() / 3600
        reason = f"{table}: rates that no later row ends: taken for {hours:g} h (rows kept)"
        log.counts[reason] += n_open


def _exclude_sums_of_rates(
    amounts: pl.DataFrame,
    rates: pl.DataFrame,
    longest: timedelta,
    table: str,
    log: ExclusionLog,
) -> pl.DataFrame:
    """Exclude amounts that only sum up an infusion whose rate is charted.

    Args:
        amounts: rows with an amount and no rate.
        rates: rows with a rate.
        longest: how long a rate lasts.
        table: the table's name.
        log: receives the excluded rows.
    """
    rate_times = rates.select("stay_id", "code", "time", _rate_time="time")
    matched = amounts.sort("time").join_asof(
        rate_times.sort("time"),
        on="time",
        by=["stay_id", "code"],
        tolerance=longest,
        check_sortedness=False,
    )
    has_rate = pl.col("_rate_time").is_not_null()
    reason = f"{table}: amount of an infusion whose rate is charted"
    return log.exclude(matched, has_rate, reason).drop("_rate_time")
