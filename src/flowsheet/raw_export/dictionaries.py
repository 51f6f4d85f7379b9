"""D_ITEMS and D_LABITEMS: names of the items that are charted."""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.catalogue import mimic3_items
from flowsheet.raw_export.day_template import (
    N_UNMAPPED_NUMBERS,
    N_UNMAPPED_TESTS,
    N_UNMAPPED_TEXTS,
)
from flowsheet.raw_export.items import SYSTEMS, list_charted_item_ids, list_unmapped_item_ids


def make_dictionary_tables() -> dict[str, pl.DataFrame]:
    """Rows of D_ITEMS and D_LABITEMS: the catalogue's charted items, then the unmapped ones."""
    mapped = mimic3_items().unique("itemid", keep="first", maintain_order=True).sort("itemid")
    mapped = mapped.filter(pl.col("itemid").is_in(sorted(list_charted_item_ids())))
    is_lab = pl.col("table") == "labevents"
    chart_items = mapped.filter(~is_lab).select(
        ITEMID="itemid", LABEL="label", DBSOURCE="system", LINKSTO="table", UNITNAME="unit"
    )
    lab_items = mapped.filter(is_lab).select(ITEMID="itemid", LABEL="label", FLUID=pl.lit("Blood"))
    unmapped = [_make_unmapped_chart_items(system) for system in SYSTEMS]
    tests = pl.DataFrame({"ITEMID": list_unmapped_item_ids("lab", N_UNMAPPED_TESTS)})
    tests = tests.with_columns(LABEL=pl.format("Simulated test {}", "ITEMID"))
    return {
        "D_ITEMS": pl.concat([chart_items, *unmapped], how="diagonal_relaxed"),
        "D_LABITEMS": pl.concat([lab_items, tests], how="diagonal_relaxed"),
    }


def _make_unmapped_chart_items(system: str) -> pl.DataFrame:
    item_ids = list_unmapped_item_ids(system, N_UNMAPPED_TEXTS + N_UNMAPPED_NUMBERS)
    return pl.DataFrame({"ITEMID": item_ids}).with_columns(
        LABEL=pl.format("Simulated item {}", "ITEMID"),
        DBSOURCE=pl.lit(system),
        LINKSTO=pl.lit("chartevents"),
    )
