"""Blood gases whose specimen is not arterial."""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.blood_gases import find_venous
from flowsheet.cohort.engine.exclusions import ExclusionLog
from flowsheet.cohort.engine.item_map import ItemMap


def exclude_venous(
    gases: pl.DataFrame,
    specimens: pl.DataFrame,
    others: pl.DataFrame,
    items: ItemMap,
    log: ExclusionLog,
) -> pl.DataFrame:
    """Blood gases without those whose specimen was not arterial.

    Args:
        gases: pO2 and saturation of blood gases.
        specimens: 1 where the specimen was arterial, 0 where it was not.
        others: rows of other variables; the pulse oximeter's are used.
        items: the database's items.
        log: receives the excluded rows.
    """
    keys = ["stay", "time"]
    known = specimens.group_by(keys).agg(_is_arterial=pl.col("value").min() > 0)
    gases = gases.join(known, on=keys, how="left", maintain_order="left")
    reason = "blood gas that is not arterial"
    gases = log.exclude(gases, ~pl.col("_is_arterial"), reason)
    unknown = gases.filter(pl.col("_is_arterial").is_null())
    po2 = unknown.filter(pl.col("code").is_in(items.codes_of("po2").implode()))
    oximetry = others.filter(pl.col("code").is_in(items.codes_of("o2sat").implode()))
    venous = find_venous(po2, oximetry, "stay").with_columns(_is_venous=True)
    gases = gases.join(venous, on=keys, how="left", maintain_order="left")
    reason = "blood gas of an unknown specimen that looks venous"
    return log.exclude(gases, pl.col("_is_venous"), reason)
