"""The fraction of inspired oxygen by the flow of oxygen and its device.

The table is that of Komorowski et al., Nature Medicine 24:1716-1720 (2018),
doi:10.1038/s41591-018-0213-5, in the code of the AI Clinician: for each device, up to which flow in
L/min a fraction holds. Beyond the highest flow, and for high-flow cannulas, masks with pressure and
tubes, the fraction is what is set, and not derived.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.engine.item_map import ItemMap

_DEVICE_HOURS = 12
"""A charted device is used at most this long."""


def derive_fio2(rows: pl.DataFrame, items: ItemMap) -> pl.DataFrame:
    """FiO2 at each time with a flow of oxygen, where none is charted.

    The device is the last one that was in the record with the flow.

    Args:
        rows: stay, time, known_at, code, order and value of charted events.
        items: the database's items.

    Returns:
        The derived rows, in the columns of ``rows``.
    """
    key = ["stay", "time"]
    flows = _select(rows, items, "o2_flow").sort("time", "known_at", "code")
    flows = flows.unique(key, keep="first", maintain_order=True)
    flows = flows.join(_select(rows, items, "fio2"), on=key, how="anti", maintain_order="left")
    devices = _select(rows, items, "o2_device").select(*key, device="value", _stored="known_at")
    matched = flows.sort("time").join_asof(
        devices.sort("time"),
        on="time",
        by="stay",
        tolerance=timedelta(hours=_DEVICE_HOURS),
        check_sortedness=False,
    )
    in_record = matched.filter(pl.col("_stored") <= pl.col("known_at"))
    fractions = catalogue.fio2_by_flow().rename({"flow": "value"}).sort("value")
    derived = in_record.sort("value").join_asof(
        fractions, on="value", by="device", strategy="forward", check_sortedness=False
    )
    item = items.items.filter(pl.col("name") == "fio2").tail(1)
    derived = derived.drop_nulls("fio2").with_columns(
        value=pl.col("fio2"), code=pl.lit(item["code"][0]), order=pl.lit(item["order"][0])
    )
    return derived.select(rows.columns).cast(rows.schema)


def _select(rows: pl.DataFrame, items: ItemMap, variable: str) -> pl.DataFrame:
    return rows.filter(pl.col("code").is_in(items.codes_of(variable).implode()))
