"""Measurements and drugs out of a MEDS data set's rows, each with the stay that it belongs to."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import EVENTS, TREATMENTS
from flowsheet.cohort.sources.meds.codes import converted, dose_factor
from flowsheet.cohort.sources.meds.shards import ORDER, ROW_UNIT

MEASURED: dict[str, pl.DataType] = {**EVENTS, "rule": pl.UInt32()}
"""Events before the choice between several at one time: ``rule`` is the mapping's row."""


def timed(rows: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
    """The rows that tell when, known no earlier than true, and after the mapping's delay."""
    left_out["a measurement or drug without a time"] += rows["time"].null_count()
    known = pl.max_horizontal("time", "known_at") + pl.duration(
        microseconds=(pl.col("delay_hours") * 3.6e9).round().cast(pl.Int64)
    )
    return rows.drop_nulls("time").with_columns(known_at=known)


def of_stays(
    rows: pl.DataFrame, stays: pl.DataFrame, before_hours: float, after_hours: float
) -> pl.DataFrame:
    """The rows with ``stay_id``: of the stay they lie in or soon after, else of one that begins soon; else null."""
    windows = stays.select("subject_id", "stay_id", "admitted_at", "discharged_at").sort(
        "admitted_at", "stay_id"
    )
    ordered = rows.sort("time")
    keys: dict[str, Any] = {
        "left_on": "time",
        "right_on": "admitted_at",
        "by": "subject_id",
        "check_sortedness": False,
    }
    past = ordered.join_asof(windows, **keys)
    to_come = windows.select("subject_id", "admitted_at", soon="stay_id")
    soon = ordered.join_asof(
        to_come, **keys, strategy="forward", tolerance=timedelta(hours=before_hours)
    )["soon"]
    inside = pl.col("time") <= pl.col("discharged_at")
    just_left = pl.col("time") <= pl.col("discharged_at") + timedelta(hours=after_hours)
    stay = (
        pl.when(inside)
        .then("stay_id")
        .otherwise(pl.coalesce(soon, pl.when(just_left).then("stay_id")))
    )
    return past.with_columns(stay_id=stay).drop("admitted_at", "discharged_at")


def measurements(rows: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
    """Rows of kind ``variable`` as ``MEASURED``, in the catalogue's units; what is not plausible is left out."""
    value = converted(pl.col("value"), pl.col("convert")).fill_nan(None)
    told = rows.with_columns(value=value, variable="name").drop_nulls("value")
    left_out["a measurement without a number"] += rows.height - told.height
    told = told.join(catalogue.ranges(), on="variable", how="left", maintain_order="left")
    size = pl.when(pl.col("convert") == "negate").then(-pl.col("value")).otherwise("value")
    possible = told.filter(size.is_between("low", "high"))
    left_out["an impossible value"] += told.height - possible.height
    return possible.select(list(MEASURED)).cast(pl.Schema(MEASURED))


def chosen(measured: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
    """One event for each stay, time and variable: what was known first, then of the code that the
    mapping names first.

    Outputs of several codes at one time come out together: their sum.
    """
    key = ["stay_id", "time", "variable"]
    ordered = measured.sort("known_at", "rule", "value")
    once = ordered.unique([*key, "rule"], keep="first", maintain_order=True)
    output = pl.col("variable").is_in(
        [v.name for v in catalogue.variables().values() if v.kind == "output"]
    )
    sums = once.filter(output).group_by(key).agg(pl.col("known_at").max(), pl.col("value").sum())
    others = once.filter(~output)
    first = others.unique(key, keep="first", maintain_order=True)
    left_out["another value of the same code at the same time"] += measured.height - once.height
    left_out["another code for the same variable at the same time"] += others.height - first.height
    columns = list(EVENTS)
    return (
        pl.concat([sums.select(columns), first.select(columns)]).sort(key).cast(pl.Schema(EVENTS))
    )


def doses(rows: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
    """Rows of the kinds ``drug``, ``drug_start`` and ``drug_end`` as treatments with ``subject_id``
    and ``time``.

    The n-th start of a drug and order goes with the n-th end of it. A rate that can be told in the
    catalogue's unit is the dose; else the amount of the end, spread over the time; a start without
    a rate or an end was given at once.
    """
    single = rows.filter(kind="drug").with_columns(
        end="time", rate=None, amount="value", amount_unit=_unit()
    )
    starts, ends = (_numbered(rows.filter(kind=kind)) for kind in ("drug_start", "drug_end"))
    key = ["subject_id", "name", ORDER, "n"]
    amounts = ends.select(*key, end="time", amount="value", amount_unit=_unit())
    pairs = starts.join(amounts, on=key, how="left", nulls_equal=True, maintain_order="left")
    left_out["the end of a drug that no start goes with"] += ends.height - pairs["end"].count()
    left_out["a drug that ends before it starts"] += pairs.filter(
        pl.col("end") < pl.col("time")
    ).height
    pairs = pairs.filter((pl.col("end") >= pl.col("time")).fill_null(value=True)).drop("n")
    pairs = pairs.with_columns(pl.col("end").fill_null(pl.col("time")), rate="value")
    columns = [
        "subject_id",
        "time",
        "end",
        "known_at",
        "name",
        "rate",
        "rate_unit",
        "amount",
        "amount_unit",
    ]
    both = [frame.with_columns(rate_unit=_unit()).select(columns) for frame in (single, pairs)]
    return _dosed(pl.concat(both, how="vertical_relaxed"))


def _unit() -> pl.Expr:
    """The unit that the row tells, else the mapping's."""
    return pl.coalesce(ROW_UNIT, "unit")


def _numbered(rows: pl.DataFrame) -> pl.DataFrame:
    ordered = rows.sort("subject_id", "name", ORDER, "time", "code", "value")
    return ordered.with_columns(n=pl.int_range(pl.len()).over("subject_id", "name", ORDER))


def _dosed(given: pl.DataFrame) -> pl.DataFrame:
    given = given.join(
        catalogue.drug_units(), left_on="name", right_on="drug", how="left", maintain_order="left"
    )
    per_hour, whole = (
        _factors(given, "rate", running=True),
        _factors(given, "amount", running=False),
    )
    hours = (pl.col("end") - pl.col("time")).dt.total_microseconds() / 3.6e9
    rate = pl.col("rate") * pl.Series(per_hour)
    amount = pl.col("amount") * pl.Series(whole)
    at_once = pl.col("rate").is_null() | (hours == 0)
    dose = pl.when(at_once).then(amount).otherwise(pl.coalesce(rate, amount / hours))
    return given.select(
        "subject_id",
        "time",
        drug="name",
        start="time",
        end=pl.when(at_once).then("time").otherwise("end"),
        known_at="known_at",
        dose=dose,
        unit="known_unit",
    )


def _factors(given: pl.DataFrame, of: str, *, running: bool) -> pl.Series:
    """What each dose is multiplied with; null where its unit cannot be told in the catalogue's."""
    units = given.select(f"{of}_unit", "known_unit")
    met = units.unique()
    table = met.with_columns(
        factor=pl.Series(
            [dose_factor(a, b, running=running) for a, b in met.iter_rows()], dtype=pl.Float64
        )
    )
    return units.join(table, on=units.columns, how="left", nulls_equal=True, maintain_order="left")[
        "factor"
    ]


def treatments(given: pl.DataFrame) -> pl.DataFrame:
    """Doses with ``stay_id`` as the contract's treatments, each once."""
    return (
        given.select(list(TREATMENTS))
        .cast(pl.Schema(TREATMENTS))
        .unique()
        .sort("stay_id", "start", "drug")
    )
