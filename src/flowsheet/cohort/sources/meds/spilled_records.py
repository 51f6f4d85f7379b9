"""The records of a data set on disk, until their stays become a batch."""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.schema import TREATMENTS
from flowsheet.cohort.sepsis3 import ANTIBIOTICS, CULTURES
from flowsheet.cohort.sources.meds.measurements import MEASURED
from flowsheet.cohort.spill import Spill

_SPILLED: dict[str, dict[str, pl.DataType]] = {
    "events": MEASURED,
    "treatments": TREATMENTS,
    "antibiotics": ANTIBIOTICS,
    "cultures": CULTURES,
}


def add_records(spill: Spill, records: dict[str, pl.DataFrame], numbers: pl.DataFrame) -> None:
    """Add the records by the numbers of their stays; ``numbers`` has the columns stay_id, stay."""
    for table, frame in records.items():
        columns = frame.select(list(_SPILLED[table]))
        spill.add(table, columns.join(numbers, on="stay_id", how="inner", maintain_order="left"))


def pop_records(spill: Spill, group: int) -> dict[str, pl.DataFrame]:
    """The records of one group of stays, by table."""
    records = {table: spill.pop(table, group, schema) for table, schema in _SPILLED.items()}
    return {table: rows.drop("stay", strict=False) for table, rows in records.items()}
