"""Blood gases of an unknown specimen that look venous."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

LOWEST_PO2 = 45.0
"""mmHg; below it, a blood gas whose specimen is not recorded counts as venous."""
SATURATION_GAP = 15.0
"""So does one whose saturation is that many percentage points below the pulse oximeter's."""
SATURATION_HOURS = 1
"""The longest time from a value of the pulse oximeter to the blood gas."""


def expected_saturation(po2: pl.Expr) -> pl.Expr:
    """The saturation in percent of blood with this pO2 in mmHg.

    Severinghaus, J Appl Physiol 46:599 (1979), doi:10.1152/jappl.1979.46.3.599.

    >>> po2 = pl.DataFrame({"po2": [38.0, 60.0, 100.0]})
    >>> po2.select(expected_saturation(pl.col("po2")).round(1)).to_series().to_list()
    [72.1, 90.6, 97.7]
    """
    return 100 / (1 + 23_400 / (po2**3 + 150 * po2))


def find_venous(po2: pl.DataFrame, oximetry: pl.DataFrame, stay: str) -> pl.DataFrame:
    """The stay and time of the blood gases that look venous, by what was in the record with them.

    Args:
        po2: values of an unknown specimen, with the columns ``stay``, time, known_at and value.
        oximetry: saturations of the pulse oximeter, with the same columns.
        stay: the name of the column with the stay.
    """
    charted = oximetry.select(stay, "time", _saturation="value", _stored="known_at").sort("time")
    matched = po2.sort("time").join_asof(
        charted,
        on="time",
        by=stay,
        tolerance=timedelta(hours=SATURATION_HOURS),
        check_sortedness=False,
    )
    gap = pl.col("_saturation") - expected_saturation(pl.col("value"))
    contradicts = (gap > SATURATION_GAP) & (pl.col("_stored") <= pl.col("known_at"))
    is_venous = (pl.col("value") < LOWEST_PO2) | contradicts.fill_null(value=False)
    return matched.filter(is_venous).select(stay, "time").unique()
