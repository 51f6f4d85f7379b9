"""Blood gases whose specimen is not arterial."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from flowsheet.cohort.sources.mimic3.exclusions import ExclusionLog
from flowsheet.cohort.sources.mimic3.item_map import load_items

LOWEST_PO2 = 45.0
"""mmHg; below it, a blood gas whose specimen is not recorded counts as venous."""
SATURATION_GAP = 15.0
"""So does one whose saturation is that many percentage points below the pulse oximeter's."""
SATURATION_HOURS = 1
"""The longest time from a value of the pulse oximeter to the blood gas."""


def exclude_venous(
    gases: pl.DataFrame, specimens: pl.DataFrame, others: pl.DataFrame, log: ExclusionLog
) -> pl.DataFrame:
    """Blood gases without those whose specimen was not arterial.

    Args:
        gases: pO2 and saturation of blood gases.
        specimens: 1 where the specimen was arterial, 0 where it was not.
        others: rows of other variables; the pulse oximeter's are used.
        log: receives the excluded rows.
    """
    keys = ["stay", "time"]
    known = specimens.group_by(keys).agg(_is_arterial=pl.col("value").min() > 0)
    gases = gases.join(known, on=keys, how="left", maintain_order="left")
    reason = "labevents: blood gas that is not arterial"
    gases = log.exclude(gases, ~pl.col("_is_arterial"), reason)
    venous = _find_venous(gases.filter(pl.col("_is_arterial").is_null()), others)
    gases = gases.join(venous, on=keys, how="left", maintain_order="left")
    reason = "labevents: blood gas of an unknown specimen that looks venous"
    return log.exclude(gases, pl.col("_is_venous"), reason)


def expected_saturation(po2: pl.Expr) -> pl.Expr:
    """The saturation in percent of blood with this pO2 in mmHg.

    Severinghaus, J Appl Physiol 46:599 (1979), doi:10.1152/jappl.1979.46.3.599.

    >>> po2 = pl.DataFrame({"po2": [38.0, 60.0, 100.0]})
    >>> po2.select(expected_saturation(pl.col("po2")).round(1)).to_series().to_list()
    [72.1, 90.6, 97.7]
    """
    return 100 / (1 + 23_400 / (po2**3 + 150 * po2))


def _find_venous(gases: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """(stay, time, _is_venous) of blood gases that look venous, by what was in the record."""
    po2 = gases.filter(pl.col("code").is_in(_codes("po2").implode()))
    charted = others.filter(pl.col("code").is_in(_codes("o2sat").implode()))
    charted = charted.select("stay", "time", _saturation="value", _stored="known_at").sort("time")
    matched = po2.sort("time").join_asof(
        charted,
        on="time",
        by="stay",
        tolerance=timedelta(hours=SATURATION_HOURS),
        check_sortedness=False,
    )
    gap = pl.col("_saturation") - expected_saturation(pl.col("value"))
    contradicts = (gap > SATURATION_GAP) & (pl.col("_stored") <= pl.col("known_at"))
    is_venous = (pl.col("value") < LOWEST_PO2) | contradicts.fill_null(value=False)
    return matched.filter(is_venous).select("stay", "time", _is_venous=True).unique()


def _codes(variable: str) -> pl.Series:
    return load_items().filter(name=variable)["code"]
