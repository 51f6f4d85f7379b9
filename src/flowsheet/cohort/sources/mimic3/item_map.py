"""The catalogue's items of MIMIC-III, with codes and the details that the readers need.

An item's *code* is its row in the catalogue's item map. It is also the rank of the item among the
items of one variable or drug: where two have a value at the same time, the lower code wins.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.units import FRACTION_OR_PERCENT, IDENTITY, LINEAR_CONVERSIONS
from flowsheet.typing import Bools, Ints32

TEXT_CONVERSIONS = (
    "gcs_verbal",
    "crp",
    "specimen",
    "ventilator_setting",
    "ventilator_mode",
    "non_zero",
    "positive",
    "any_text",
    "ended",
)
"""Conversions that depend on the text of the cell, beside those of ``mimic3_texts``."""
_VOLUMES = ("urine", "other_output", "bladder_irrigant")
_COMA_SCORES = ("egcs", "mgcs", "vgcs", "gcs")

PARTS = pl.Enum(["rest", "arterial", "coma", "volume", "weight", "specimen", "copy"])
"""Events by how they are processed; all but ``rest`` depend on several rows."""


@lru_cache(maxsize=1)
def load_items() -> pl.DataFrame:
    """The catalogue's items with the columns that the readers need.

    Returns:
        The columns of the item map, and: ``code``; ``order`` (the rank of the name in the alphabet,
        from 1); ``factor`` and ``offset`` of the conversion to the catalogue's unit; ``is_text``
        (the conversion depends on text); ``is_share`` (a fraction or a percentage); ``part`` (one
        of ``PARTS``); ``is_result`` (of the laboratory); ``low`` and ``high``, the plausible range.
    """
    item_map = catalogue.mimic3_items()
    conversions = [LINEAR_CONVERSIONS.get(name, IDENTITY) for name in item_map["convert"]]
    ranges = catalogue.ranges().rename({"variable": "name"})
    texts = catalogue.mimic3_texts()["convert"].unique()
    part = (
        pl.when(pl.col("kind") == "copy")
        .then(pl.lit("copy"))
        .when(pl.col("convert") == "arterial")
        .then(pl.lit("arterial"))
        .when(pl.col("name").is_in(_COMA_SCORES))
        .then(pl.lit("coma"))
        .when(pl.col("name").is_in(_VOLUMES))
        .then(pl.lit("volume"))
        .when(pl.col("name").is_in(["specimen", "weight"]))
        .then("name")
        .otherwise(pl.lit("rest"))
    )
    coded = item_map.with_row_index("code").with_columns(
        pl.col("code").cast(pl.Int32),
        order=pl.col("name").rank("dense").cast(pl.Int64),
        factor=pl.Series([conversion.factor for conversion in conversions]),
        offset=pl.Series([conversion.offset for conversion in conversions]),
        is_text=pl.col("convert").is_in([*TEXT_CONVERSIONS, *texts]),
        is_share=pl.col("convert") == FRACTION_OR_PERCENT,
        part=part.cast(PARTS),
        is_result=pl.col("table") == "labevents",
    )
    return _adjust_ranges(coded.join(ranges, on="name", how="left", maintain_order="left"))


def _adjust_ranges(coded: pl.DataFrame) -> pl.DataFrame:
    """Ranges for values that are no measurements yet: codes of text."""
    can_be_zero = pl.col("convert").is_in(["gcs_verbal", "specimen"])
    return coded.with_columns(
        low=pl.when(can_be_zero).then(0.0).otherwise("low"),
        high=pl.when(pl.col("convert") == "specimen").then(1.0).otherwise("high"),
    )


@lru_cache(maxsize=1)
def load_names_by_order() -> pl.Series:
    """The names of variables and drugs; the one with ``order`` n is at position n - 1."""
    return load_items().unique("order").sort("order")["name"]


@lru_cache(maxsize=1)
def load_text_values() -> dict[str, float]:
    """The values of the cells with known texts, by ``convert=text``."""
    texts = catalogue.mimic3_texts()
    key = pl.concat_str("convert", pl.lit("="), "text").alias("key")
    return dict(texts.select(key, "value").iter_rows())


@lru_cache(maxsize=16)
def load_table_items(table: str) -> pl.DataFrame:
    """(itemid, code, convert, kind) of the items of a raw table."""
    items = load_items().filter(pl.col("table") == table)
    return items.select("itemid", "code", "convert", "kind")


@lru_cache(maxsize=1)
def load_copies() -> pl.DataFrame:
    """(itemid) of the items of CHARTEVENTS that copy a result of the laboratory."""
    return load_items().filter(pl.col("kind") == "copy").select("itemid")


@lru_cache(maxsize=1)
def load_delays() -> pl.DataFrame:
    """(itemid, delay): from the sample to the result, for the items of the laboratory."""
    results = load_items().filter("is_result")
    microseconds = (pl.col("delay_hours").fill_null(0.0) * 3.6e9).round().cast(pl.Int64)
    return results.select("itemid", delay=pl.duration(microseconds=microseconds)).unique()


@lru_cache(maxsize=16)
def index_codes(table: str) -> list[Ints32]:
    """Arrays from an item id to its codes in a raw table: the first code, the second, and so on.

    An entry is -1 where the item has no such code.
    """
    table_items = load_table_items(table)
    size = int(table_items["itemid"].to_numpy().max()) + 1
    ranked = table_items.with_columns(rank=pl.int_range(pl.len()).over("itemid"))
    arrays = []
    for rows in ranked.partition_by("rank"):
        codes = np.full(size, -1, np.int32)
        codes[rows["itemid"].to_numpy()] = rows["code"].to_numpy()
        arrays.append(codes)
    return arrays


@lru_cache(maxsize=1)
def needs_conversion() -> Bools:
    """For each code, whether a charted value differs from the value in the catalogue's unit."""
    is_plain = (
        ~pl.col("is_text") & ~pl.col("is_share") & (pl.col("factor") == 1) & (pl.col("offset") == 0)
    )
    return load_items().select(~is_plain).to_series().to_numpy()
