"""The Glasgow coma scale: the total of its parts, and patients who cannot speak."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from flowsheet.cohort.engine.event_values import INTUBATED
from flowsheet.cohort.engine.exclusions import ExclusionLog
from flowsheet.cohort.engine.item_map import COMA_PARTS, COMA_TOTAL, ItemMap
from flowsheet.cohort.engine.options import DatabaseOptions

TOGETHER = timedelta(minutes=5)
"""Parts that are charted within this time belong to one examination."""
_TUBE_REMAINS = timedelta(hours=6)
"""With ``intubated_verbal: normal`` a patient stays intubated this long after it was charted, until
another verbal response is; as in mimic-code."""


def complete_coma_scores(
    rows: pl.DataFrame, items: ItemMap, options: DatabaseOptions, log: ExclusionLog
) -> pl.DataFrame:
    """Add the coma score's total where its parts were charted, and treat intubated patients.

    Args:
        rows: the score's parts and charted totals, each item once at a time.
        items: the database's items.
        options: ``intubated_verbal``.
        log: receives verbal responses of intubated patients that are excluded.
    """
    rows = rows.join(items.items.select("code", "name"), on="code", maintain_order="left")
    is_total = pl.col("name") == COMA_TOTAL
    is_intubated_verbal = (pl.col("name") == "vgcs") & (pl.col("value") == INTUBATED)
    parts = rows.filter(~is_total)
    is_normal = options.intubated_verbal == "normal"
    sums = sum_parts(parts, _TUBE_REMAINS if is_normal else TOGETHER)
    if options.intubated_verbal == "as_charted":
        sums = sums.with_columns(value=pl.col("value") + pl.col("intubated"))
        sums = sums.filter(pl.col("n_parts") == len(COMA_PARTS))
    elif is_normal:
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
    total = items.items.filter(is_total).head(1).select("code", "name", "order", "part")
    totals = sums.join(total, how="cross").select(parts.columns)
    return pl.concat([parts, charted_totals, totals])


def sum_parts(parts: pl.DataFrame, tube_remains: timedelta) -> pl.DataFrame:
    """Sums of the parts, at each time at which one is charted, where all three are known.

    A part that is not charted at that very time is the last one of the five minutes before it. A
    patient who is known to be intubated, by the last verbal response within ``tube_remains``, need
    not have all three.

    Args:
        parts: (stay, time, known_at, name, value); ``name`` is one of ``COMA_PARTS``.
        tube_remains: how long a verbal response tells that a patient is intubated.

    Returns:
        (stay, time, known_at, n_parts, value, intubated).
    """
    key = ["stay", "time"]
    sums = parts.select(key).unique().sort("time", "stay")
    for name in COMA_PARTS:
        part = parts.filter(name=name).sort("known_at", "value").unique(key, keep="first")
        part = part.select(*key, value="value", known="known_at").sort("time", "stay")
        part = part.rename({"value": name, "known": f"{name}_known"})
        sums = sums.join_asof(
            part, on="time", by="stay", tolerance=TOGETHER, check_sortedness=False
        )
    verbal = parts.filter(name="vgcs").sort("known_at", "value").unique(key, keep="first")
    verbal = verbal.select(*key, _verbal="value", _verbal_known="known_at").sort("time", "stay")
    sums = sums.join_asof(
        verbal, on="time", by="stay", tolerance=tube_remains, check_sortedness=False
    )
    known_at = pl.max_horizontal(*(f"{name}_known" for name in COMA_PARTS), "_verbal_known")
    sums = sums.select(
        *key,
        known_at=known_at,
        n_parts=pl.sum_horizontal(pl.col(name).is_not_null() for name in COMA_PARTS),
        value=pl.sum_horizontal(COMA_PARTS),
        intubated=(pl.col("_verbal") == INTUBATED).fill_null(value=False),
    )
    is_complete = (pl.col("n_parts") == len(COMA_PARTS)) | pl.col("intubated")
    return sums.filter(is_complete).sort(key)
