"""The items of a database, with codes and the details that the readers need.

An item's *code* is its row in the item map. It is also the rank of the item among the
items of one variable or drug: where two have a value at the same time, the lower code wins.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field

from flowsheet.cohort import catalogue
from flowsheet.cohort.engine.own_items import read_own_items
from flowsheet.cohort.engine.spelling import spell_text
from flowsheet.cohort.units import FRACTION_OR_PERCENT, IDENTITY, LINEAR_CONVERSIONS
from flowsheet.config import FrozenModel
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
COMA_PARTS = ("egcs", "mgcs", "vgcs")
COMA_TOTAL = "gcs"

PARTS = pl.Enum(["rest", "arterial", "coma", "volume", "weight", "specimen", "copy"])
"""Events by how they are processed; all but ``rest`` depend on several rows."""
LABORATORY = "lab"
"""The system of the laboratory's items."""


class ItemSelection(FrozenModel):
    """Which items of which files a database reads."""

    files: tuple[str, ...]
    """Files of items; the columns are those of ``catalogue.read_items``."""
    systems: tuple[str, ...] = ()
    """Only items of these systems; empty: of all."""
    excluded_kinds: tuple[str, ...] = ()
    """Kinds of items that are not read, such as ``copy``."""
    tables: dict[str, str] = Field(default_factory=dict)
    """Other names of tables: a table of the files, and its name in this database."""
    text: bool = False
    """Whether items are texts such as ``heart_rate``, not whole numbers."""
    exact_units: bool = False
    """Whether a value in another unit than its item's is rejected; else it is counted."""


class ItemMap:
    """The items of one database."""

    def __init__(self, selection: ItemSelection, folder: Path) -> None:
        """``folder``: of the database's YAML; files that are not there are the catalogue's."""
        self.selection = selection
        self.folder = folder

    def own_files(self) -> list[Path]:
        """The files of items beside the database's YAML."""
        paths = [self.folder / name for name in self.selection.files]
        return [path for path in paths if path.is_file()]

    def _read(self, name: str) -> pl.DataFrame:
        own = self.folder / name
        if own.is_file():
            return read_own_items(own, self.selection.text)
        return catalogue.read_items(name, self.selection.text)

    @cached_property
    def rows(self) -> pl.DataFrame:
        """The selected rows of the files, without items that are mapped twice to one concept."""
        chosen = self.selection
        files = [self._read(name) for name in chosen.files]
        rows = pl.concat(files).with_columns(pl.col("table").replace(chosen.tables))
        if chosen.systems:
            rows = rows.filter(pl.col("system").is_in(chosen.systems))
        rows = rows.filter(~pl.col("kind").is_in(chosen.excluded_kinds))
        if not chosen.text:
            return rows
        text = spell_text(pl.col("itemid"))
        return rows.with_columns(text=text, itemid=text.rank("dense").cast(pl.Int64))

    def numbers_of(self, table: str) -> dict[str, int] | None:
        """The numbers of a table's items that are texts; None if items are numbers."""
        if not self.selection.text:
            return None
        return dict(self.rows.filter(table=table).select("text", "itemid").unique().iter_rows())

    @cached_property
    def items(self) -> pl.DataFrame:
        """The items, and the coma score's total, with the columns that the readers need.

        The columns of the files, and: ``code``; ``order`` (the rank of the name in the alphabet,
        from 1); ``factor`` and ``offset`` of the conversion to the catalogue's unit; ``is_text``
        (the conversion depends on text); ``is_share`` (a fraction or a percentage); ``part`` (one
        of ``PARTS``); ``is_result`` (of the laboratory); ``low`` and ``high``, the plausible range.
        """
        rows = _add_coma_total(self.rows)
        conversions = [LINEAR_CONVERSIONS.get(name, IDENTITY) for name in rows["convert"]]
        ranges = catalogue.ranges().rename({"variable": "name"})
        texts = catalogue.mimic3_texts()["convert"].unique()
        coded = rows.with_row_index("code").with_columns(
            pl.col("code").cast(pl.Int32),
            order=pl.col("name").rank("dense").cast(pl.Int64),
            factor=pl.Series([conversion.factor for conversion in conversions]),
            offset=pl.Series([conversion.offset for conversion in conversions]),
            is_text=pl.col("convert").is_in([*TEXT_CONVERSIONS, *texts]),
            is_share=pl.col("convert") == FRACTION_OR_PERCENT,
            part=_find_part().cast(PARTS),
            is_result=pl.col("system") == LABORATORY,
        )
        return _adjust_ranges(coded.join(ranges, on="name", how="left", maintain_order="left"))

    @cached_property
    def names_by_order(self) -> pl.Series:
        """The names of variables and drugs; the one with ``order`` n is at position n - 1."""
        return self.items.unique("order").sort("order")["name"]

    def codes_of(self, name: str) -> pl.Series:
        """The codes of a variable or drug."""
        return self.items.filter(name=name)["code"]

    @cached_property
    def drugs(self) -> pl.DataFrame:
        """(drug, site) of the drugs whose administration a chart system records."""
        is_drug = pl.col("kind") == "drug"
        return self.items.filter(is_drug).select(drug="name", site="system").unique()

    def of_table(self, table: str) -> pl.DataFrame:
        """(item, code, convert, kind, delay) of the items of a table.

        ``delay`` is the time from the sample to the result, for items of the laboratory.
        """
        return self._by_table.get(table, self._by_table[""])

    def copies_in(self, table: str) -> pl.Series:
        """The items of a table that copy a result of the laboratory."""
        return self.of_table(table).filter(kind="copy")["item"].unique()

    def code_arrays(self, table: str) -> list[Ints32]:
        """Arrays from an item id to its codes in a table: the first code, the second, and so on.

        An entry is -1 where the item has no such code.
        """
        return self._code_arrays[table]

    @cached_property
    def _by_table(self) -> dict[str, pl.DataFrame]:
        hours = pl.when("is_result").then(pl.col("delay_hours").fill_null(0.0))
        delay = pl.duration(microseconds=(hours * 3.6e9).round().cast(pl.Int64))
        items = self.items.select("table", "code", "convert", "kind", item="itemid", delay=delay)
        parts = items.partition_by("table", as_dict=True, include_key=False)
        by_table = {str(key[0]): part for key, part in parts.items()}
        return {"": items.clear().drop("table")} | by_table

    @cached_property
    def _code_arrays(self) -> dict[str, list[Ints32]]:
        return {table: _index_codes(items) for table, items in self._by_table.items() if table}

    @cached_property
    def needs_conversion(self) -> Bools:
        """For each code, whether a charted value differs from the value in the catalogue's unit."""
        is_linear = (pl.col("factor") == 1) & (pl.col("offset") == 0)
        is_plain = ~pl.col("is_text") & ~pl.col("is_share") & is_linear
        return self.items.select(~is_plain).to_series().to_numpy()


def _add_coma_total(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows, and an item of no table for the coma score's total where only parts are charted."""
    names = set(rows["name"])
    if COMA_TOTAL in names or not names.issuperset(COMA_PARTS):
        return rows
    total = (
        rows.filter(name=COMA_PARTS[0])
        .head(1)
        .with_columns(
            name=pl.lit(COMA_TOTAL),
            table=pl.lit("derived"),
            itemid=pl.lit(0, rows.schema["itemid"]),
            label=pl.lit("sum of the parts"),
            convert=pl.lit("none"),
        )
    )
    return pl.concat([rows, total])


def _index_codes(items: pl.DataFrame) -> list[Ints32]:
    size = int(items["item"].to_numpy().max()) + 1
    ranked = items.with_columns(rank=pl.int_range(pl.len()).over("item"))
    arrays = []
    for rows in ranked.partition_by("rank", maintain_order=True):
        codes = np.full(size, -1, np.int32)
        codes[rows["item"].to_numpy()] = rows["code"].to_numpy()
        arrays.append(codes)
    return arrays


def _find_part() -> pl.Expr:
    """How the events of an item are processed; one of ``PARTS``."""
    return (
        pl.when(pl.col("kind") == "copy")
        .then(pl.lit("copy"))
        .when(pl.col("convert") == "arterial")
        .then(pl.lit("arterial"))
        .when(pl.col("name").is_in([*COMA_PARTS, COMA_TOTAL]))
        .then(pl.lit("coma"))
        .when(pl.col("name").is_in(_VOLUMES))
        .then(pl.lit("volume"))
        .when(pl.col("name").is_in(["specimen", "weight"]))
        .then("name")
        .otherwise(pl.lit("rest"))
    )


def _adjust_ranges(coded: pl.DataFrame) -> pl.DataFrame:
    """Ranges for values that are no measurements yet: codes of text."""
    can_be_zero = pl.col("convert").is_in(["gcs_verbal", "specimen"])
    return coded.with_columns(
        low=pl.when(can_be_zero).then(0.0).otherwise("low"),
        high=pl.when(pl.col("convert") == "specimen").then(1.0).otherwise("high"),
    )


@lru_cache(maxsize=1)
def load_text_values() -> dict[str, float]:
    """The values of the cells with known texts, by ``convert=text``."""
    texts = catalogue.mimic3_texts()
    key = pl.concat_str("convert", pl.lit("="), "text").alias("key")
    return dict(texts.select(key, "value").iter_rows())
