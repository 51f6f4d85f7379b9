"""Stays out of the rows of a table of locations, where no stay has an id of its own."""

from __future__ import annotations

import polars as pl

_GAP = pl.duration(minutes=5)
"""Rows that follow each other within this time are one stay: clocks differ. Our convention."""
STAYS_PER_ADMISSION = 100
"""A stay's id is its admission's times this, and its number in the admission, from 1."""


def join_locations(rows: pl.DataFrame) -> pl.DataFrame:
    """One row for each stay: rows of an admission that follow each other within ``_GAP``.

    A patient who goes from one unit to the next remains in intensive care: the stay has the first
    one's name. It ends with the last row; if a row has no end, the stay has none.

    Args:
        rows: hadm_id, admitted_at, discharged_at and row; further fields are those of the first
            row of a stay. All have an admission and a start.

    >>> from datetime import datetime
    >>> day = [datetime(2030, 1, n) for n in range(1, 5)]
    >>> units = {"hadm_id": [7, 7, 7], "admitted_at": [day[0], day[1], day[3]]}
    >>> rows = pl.DataFrame(units | {"discharged_at": [day[1], day[2], None], "row": [1, 2, 3]})
    >>> join_locations(rows).select("stay_id", "admitted_at", "discharged_at").rows() == [
    ...     (701, day[0], day[2]), (702, day[3], None)
    ... ]
    True
    """
    order = [name for name in rows.columns if name not in ("hadm_id", "admitted_at")]
    rows = rows.sort("hadm_id", "admitted_at", *order, nulls_last=True)
    last_end = pl.col("discharged_at").cum_max().shift(1).over("hadm_id")
    follows = (pl.col("admitted_at") <= last_end + _GAP).fill_null(value=False)
    rows = rows.with_columns(_number=(~follows).cast(pl.Int64).cum_sum().over("hadm_id"))
    has_no_end = pl.col("discharged_at").is_null().any()
    end = pl.when(~has_no_end).then(pl.col("discharged_at").max())
    others = [name for name in order if name != "discharged_at"]
    stays = rows.group_by("hadm_id", "_number", maintain_order=True).agg(
        *(pl.col(name).first() for name in others),
        admitted_at=pl.col("admitted_at").first(),
        discharged_at=end,
    )
    stay_id = pl.col("hadm_id") * STAYS_PER_ADMISSION + pl.col("_number")
    return stays.with_columns(stay_id=stay_id).drop("_number")
