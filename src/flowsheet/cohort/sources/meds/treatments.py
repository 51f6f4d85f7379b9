"""Treatments of a MEDS data set: single doses, and pairs of a start and an end."""

from __future__ import annotations

from collections import Counter

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import TREATMENTS
from flowsheet.cohort.sources.meds.codes import dose_factor
from flowsheet.cohort.sources.meds.shards import ORDER, ROW_UNIT

_DOSE_COLUMNS = (
    *("subject_id", "time", "end", "known_at", "name"),
    *("rate", "rate_unit", "amount", "amount_unit"),
)


_ORDER_KEY = ["subject_id", "name", ORDER]
RATE_HOURS = 24
"""How long a rate whose end is not charted holds at most. Where stops are charted, as OpenICU does,
it is rarely reached."""


def collect_doses(rows: pl.DataFrame, exclusions: Counter[str]) -> pl.DataFrame:
    """Rows of the kinds of ``DRUGS`` as treatments of subjects.

    Starts and ends are paired by ``_pair_ends``. The dose is the rate where
    it can be converted to the catalogue's unit; otherwise the amount of the end divided by the
    duration. A start without a rate or an end is a single dose. A ``drug_rate`` holds until the
    next one of the subject's drug, ``RATE_HOURS`` at most; a rate of 0 is a stop.

    Returns:
        The columns of ``TREATMENTS`` except ``stay_id``, and ``subject_id`` and ``time``.
    """
    unit = pl.coalesce(ROW_UNIT, "unit")  # the unit of the row, otherwise that of the mapping
    single = rows.filter(kind="drug")
    single = single.with_columns(end="time", rate=None, amount="value", amount_unit=unit)
    ends = rows.filter(kind="drug_end").with_columns(end="time", amount="value", amount_unit=unit)
    pairs = _pair_ends(rows.filter(kind="drug_start"), ends)
    exclusions["drug ends without a start"] += ends.height - pairs.filter("is_own").height
    exclusions["drug starts without an end (rows kept)"] += pairs.filter(~pl.col("is_own")).height
    is_reversed = (pl.col("end") < pl.col("time")).fill_null(value=False)
    exclusions["drugs that end before they start"] += pairs.filter(is_reversed).height
    pairs = pairs.filter(~is_reversed)
    pairs = pairs.with_columns(pl.col("end").fill_null(pl.col("time")), rate="value")
    rates = _make_infusions(rows.filter(kind="drug_rate"), exclusions)
    parts = [
        part.with_columns(rate_unit=unit).select(_DOSE_COLUMNS) for part in (single, pairs, rates)
    ]
    return _compute_doses(pl.concat(parts, how="vertical_relaxed"), exclusions)


def finish_treatments(doses: pl.DataFrame) -> pl.DataFrame:
    """Doses with ``stay_id`` as the contract's treatments, without duplicates."""
    treatments = doses.select(list(TREATMENTS)).cast(pl.Schema(TREATMENTS))
    return treatments.unique().sort("stay_id", "start", "drug")


def _make_infusions(rows: pl.DataFrame, exclusions: Counter[str]) -> pl.DataFrame:
    """Infusions from charted rates, each until the next; rows without a rate are counted."""
    exclusions["rates of drugs without a number"] += rows["value"].null_count()
    charted = rows.drop_nulls("value").sort("subject_id", "name", "time", "known_at", "value")
    charted = charted.unique(["subject_id", "name", "time"], keep="last", maintain_order=True)
    following = pl.col("time").shift(-1).over("subject_id", "name")
    limit = pl.col("time") + pl.duration(hours=RATE_HOURS)
    infusions = charted.with_columns(end=pl.min_horizontal(following, limit), rate="value")
    no_amount = {"amount": pl.lit(None, pl.Float64), "amount_unit": pl.lit(None, pl.String)}
    return infusions.filter(pl.col("value") > 0).with_columns(**no_amount)


def _pair_ends(starts: pl.DataFrame, ends: pl.DataFrame) -> pl.DataFrame:
    """The starts with end, amount and amount_unit; ``is_own``: the end is that of the row.

    The n-th start of a drug and order is paired with the n-th end of it. Where one is missing, all
    that follow would get another's: there a start is paired with the next end before the next
    start, and without one it lasts until that start, ``RATE_HOURS`` at most.
    """
    values = ["end", "amount", "amount_unit"]
    starts, ends = _number_by_order(starts), _number_by_order(ends)
    key = [*_ORDER_KEY, "n"]
    pairs = starts.join(
        ends.select(*key, *values), on=key, how="left", nulls_equal=True, maintain_order="left"
    )
    totals = ends.group_by(_ORDER_KEY).agg(_n_ends=pl.len())
    pairs = pairs.join(totals, on=_ORDER_KEY, how="left", nulls_equal=True, maintain_order="left")
    n_starts = pl.len().over(_ORDER_KEY)
    is_reversed = (pl.col("end") < pl.col("time")).any().over(_ORDER_KEY) & (n_starts > 1)
    is_regular = (n_starts == pl.col("_n_ends").fill_null(0)) & ~is_reversed.fill_null(value=False)
    pairs = pairs.with_columns(_is_regular=is_regular, is_own=pl.col("end").is_not_null())
    regular = pairs.filter("_is_regular")
    others = _pair_nearest(
        pairs.filter(~pl.col("_is_regular")).drop(values), ends.select(key[:-1] + values)
    )
    return pl.concat([regular, others.select(regular.columns)]).drop("n", "_n_ends", "_is_regular")


def _pair_nearest(starts: pl.DataFrame, ends: pl.DataFrame) -> pl.DataFrame:
    """The starts with the first end after them, if it is not after the next start."""
    order = pl.col(ORDER).fill_null("")
    moment = pl.duration(microseconds=1)
    starts = starts.with_columns(_order=order, _next=pl.col("time").shift(-1).over(_ORDER_KEY))
    starts = starts.with_columns(_after=pl.col("time") + moment).sort("_after")
    matched = starts.join_asof(
        ends.with_columns(_order=order).drop(ORDER).sort("end"),
        left_on="_after",
        right_on="end",
        by=["subject_id", "name", "_order"],
        strategy="forward",
        check_sortedness=False,
    )
    is_own = pl.col("end").is_not_null() & (pl.col("end") <= pl.col("_next")).fill_null(value=True)
    limit = pl.col("time") + pl.duration(hours=RATE_HOURS)
    return matched.with_columns(
        end=pl.when(is_own).then("end").otherwise(pl.min_horizontal("_next", limit)),
        amount=pl.when(is_own).then("amount"),
        amount_unit=pl.when(is_own).then("amount_unit"),
        is_own=is_own,
    )


def _number_by_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Add n, the number of the row among those of its subject, drug and order."""
    ordered = rows.sort(*_ORDER_KEY, "time", "code", "value")
    return ordered.with_columns(n=pl.int_range(pl.len()).over(_ORDER_KEY))


def _compute_doses(rows: pl.DataFrame, exclusions: Counter[str]) -> pl.DataFrame:
    """The dose of each row in the catalogue's unit; null for impossible rates of infusions."""
    units = catalogue.drug_units()
    rows = rows.join(units, left_on="name", right_on="drug", how="left", maintain_order="left")
    rate = pl.col("rate") * pl.Series(_dose_factors(rows, "rate", running=True))
    amount = pl.col("amount") * pl.Series(_dose_factors(rows, "amount", running=False))
    hours = (pl.col("end") - pl.col("time")).dt.total_microseconds() / 3.6e9
    is_single = pl.col("rate").is_null() | (hours == 0)
    dose = pl.when(is_single).then(amount).otherwise(pl.coalesce(rate, amount / hours))
    is_high = (~is_single & (dose > pl.col("max_rate"))).fill_null(value=False)
    reason = "rates above the highest of the drug: dose unknown (rows kept)"
    exclusions[reason] += rows.select(is_high.sum()).item()
    return rows.select(
        "subject_id",
        "time",
        drug="name",
        start="time",
        end=pl.when(is_single).then("time").otherwise("end"),
        known_at="known_at",
        dose=pl.when(~is_high).then(dose),
        unit="known_unit",
    )


def _dose_factors(rows: pl.DataFrame, quantity: str, *, running: bool) -> pl.Series:
    """The factor from each row's unit to the catalogue's; null where there is no conversion."""
    units = rows.select(f"{quantity}_unit", "known_unit")
    distinct = units.unique()
    factors = [
        dose_factor(unit, catalogue_unit, running=running)
        for unit, catalogue_unit in distinct.iter_rows()
    ]
    table = distinct.with_columns(factor=pl.Series(factors, dtype=pl.Float64))
    joined = units.join(
        table, on=units.columns, how="left", nulls_equal=True, maintain_order="left"
    )
    return joined["factor"]
