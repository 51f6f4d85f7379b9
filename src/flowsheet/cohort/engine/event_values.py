"""Charted values as values in the catalogue's unit."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort.engine.exclusions import ExclusionLog
from flowsheet.cohort.engine.item_map import ItemMap, load_text_values
from flowsheet.cohort.engine.unit_names import count_unknown_units, reject_other_units
from flowsheet.cohort.units import as_percent, fold_units
from flowsheet.typing import Ints32

INTUBATED = 0.0
"""The verbal response of an intubated patient, until the option for it is applied."""

_SHOWN_CHARACTERS = 40
_MODES_WITHOUT_VENTILATION = ("other", "other/remarks", "standby", "none")


def convert_values(
    rows: pl.DataFrame, table: str, items: ItemMap, log: ExclusionLog
) -> pl.DataFrame:
    """Give each row its item's code and its value in the catalogue's unit.

    Args:
        rows: stay, time, known_at, item, number, and text and unit where there are any. Rows with a
            column ``code`` keep their codes.
        table: name of the raw table.
        items: the database's items.
        log: receives rows without a plausible value.

    Returns:
        (stay, time, known_at, code, low, high, value). An item that the catalogue maps twice gives
        two rows.
    """
    if "code" not in rows.columns:
        rows = _add_codes(rows, items.code_arrays(table))
    if items.selection.exact_units:
        rows = reject_other_units(rows, table, items.items, log)
    else:
        count_unknown_units(rows, table, items.items, log.counts)
    values = rows["number"].round(6)
    to_convert = np.flatnonzero(items.needs_conversion[rows["code"].to_numpy()])
    if len(to_convert):
        values = values.scatter(to_convert, _convert(rows[to_convert], items.items))
    ranges = items.items.select("low", "high")[rows["code"]]
    valued = rows.select("stay", "time", "known_at", "code", *ranges, value=values)
    if items.selection.text and "text" in rows.columns:
        texts = pl.concat_str(pl.lit(": "), pl.col("text").str.slice(0, _SHOWN_CHARACTERS))
        valued = valued.with_columns(text=rows.select(texts.fill_null("")).to_series())
    return _exclude_implausible(valued, table, items.items, log).drop("text", strict=False)


def _exclude_implausible(
    rows: pl.DataFrame, table: str, items: pl.DataFrame, log: ExclusionLog
) -> pl.DataFrame:
    is_missing = pl.col("value").is_null()
    is_implausible = ~pl.col("value").is_between("low", "high")
    is_text = pl.col("code").is_in(items.filter("is_text")["code"].implode())
    name = pl.col("code").replace_strict(items["code"], items["name"])
    shown = pl.concat_str(pl.lit(": "), name, pl.col("text")) if "text" in rows.columns else None
    unknown = pl.lit(f"{table}: text without a known meaning")
    reason = (
        pl.when(is_missing & is_text)
        .then(unknown if shown is None else pl.concat_str(unknown, shown))
        .when(is_missing)
        .then(pl.lit(f"{table}: no number"))
        .otherwise(pl.lit(f"{table}: implausible: ") + name)
    )
    return log.exclude_by_reason(rows, is_missing | is_implausible, reason)


def _add_codes(rows: pl.DataFrame, code_arrays: list[Ints32]) -> pl.DataFrame:
    """The rows with the ``code`` of their item; repeated for items that have several codes."""
    item_ids = rows["item"].to_numpy()
    first, *others = (codes[item_ids] for codes in code_arrays)
    parts = [rows.with_columns(code=pl.Series(first))]
    for codes in others:
        has_code = np.flatnonzero(codes >= 0)
        parts.append(rows[has_code].with_columns(code=pl.Series(codes[has_code])))
    return pl.concat(parts)


def _convert(rows: pl.DataFrame, items: pl.DataFrame) -> pl.Series:
    """Values of items that are charted in another unit than the catalogue's, or as text."""
    details = items.select("convert", "is_text", "is_share", "factor", "offset")[rows["code"]]
    rows = rows.with_columns(details)
    number = pl.col("number")
    linear = number * pl.col("factor") + pl.col("offset")
    measured = pl.when("is_share").then(as_percent(number)).otherwise(linear).round(6)
    from_text = _parse_text_values(rows.columns)
    return rows.select(pl.when("is_text").then(from_text).otherwise(measured)).to_series()


def _parse_text_values(columns: list[str]) -> pl.Expr:
    """The value of rows whose meaning depends on text: the cell, or its unit."""
    text = pl.lit("")
    if "text" in columns:
        text = pl.col("text").cast(pl.String).str.strip_chars().str.to_lowercase().fill_null("")
    convert = pl.col("convert")
    number = pl.col("number")
    is_filled = number.is_not_null() | (text != "")
    crp = number
    if "unit" in columns:
        is_per_decilitre = fold_units(pl.col("unit")) == "mg/dl"
        crp = pl.when(is_per_decilitre).then(number * 10).otherwise(number)
    listed = pl.concat_str(convert, pl.lit("="), text).replace_strict(
        load_text_values(), default=None, return_dtype=pl.Float64
    )
    return (
        pl.when(convert == "gcs_verbal")
        .then(pl.when(text.str.contains("ett|et/trach")).then(INTUBATED).otherwise(number))
        .when(convert == "crp")
        .then(crp)
        .when(convert == "specimen")
        .then(pl.when(text.str.starts_with("art")).then(1.0).when(text != "").then(0.0))
        .when(convert == "ventilator_setting")
        .then(pl.when(is_filled).then(1.0))
        .when(convert == "ventilator_mode")
        .then(pl.when((text != "") & ~text.is_in(_MODES_WITHOUT_VENTILATION)).then(1.0))
        .when(convert == "non_zero")
        .then(pl.when(number != 0).then(1.0))
        .when(convert == "positive")
        .then(pl.when(number > 0).then(1.0))
        .when(convert == "any_text")
        .then(pl.when((text != "") & (text != "none")).then(1.0))
        .when(convert == "ended")
        .then(pl.when(is_filled).then(0.0))
        .otherwise(listed)
    )
