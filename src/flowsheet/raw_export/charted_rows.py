"""Charted rows as parts: their distinct contents, and which of these a row has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.cohort.schema import TIME
from flowsheet.raw_export.chart_events import ChartedRows
from flowsheet.raw_export.day_template import DayTemplate
from flowsheet.raw_export.patients import Patients
from flowsheet.typing import Ints

_FIRST_CAREGIVER = 14_000
_N_CAREGIVERS = 6_000


@dataclass(frozen=True)
class RowPart:
    """Some columns of charted rows."""

    contents: pl.DataFrame
    """Everything that the rows have in these columns."""
    position: Ints
    """Position of each row's content."""
    is_fixed: bool
    """The contents are those of the day's template, whoever is charted."""


def split_rows(template: DayTemplate, patients: Patients, rows: ChartedRows) -> list[RowPart]:
    """The parts of charted rows: ids, item, times and cells.

    Args:
        template: the day of the table.
        patients: the stays.
        rows: what is charted of them.
    """
    dictionary = template.dictionary
    items = pl.DataFrame(
        {
            "ITEMID": dictionary.item_id,
            "UNIT": dictionary.unit,
            "quantity": dictionary.quantity,
        }
    )
    return [
        _split_ids(template.table, patients, rows),
        RowPart(items, rows.entry, is_fixed=True),
        RowPart(_list_times(rows), rows.time_index, is_fixed=False),
        RowPart(dictionary.cells, rows.cell, is_fixed=True),
    ]


def join_rows(parts: list[RowPart]) -> pl.DataFrame:
    """All columns of the rows."""
    return pl.concat([part.contents[part.position] for part in parts], how="horizontal")


def _split_ids(table: str, patients: Patients, rows: ChartedRows) -> RowPart:
    """SUBJECT_ID, HADM_ID and ICUSTAY_ID, of which the last one that the table has may be missing.

    KNOWN_ICUSTAY_ID is never missing.
    """
    complete = patients.stays.select(
        SUBJECT_ID="raw_subject",
        HADM_ID="hadm_id",
        ICUSTAY_ID="icustay_id",
        KNOWN_HADM_ID="hadm_id",
        KNOWN_ICUSTAY_ID="icustay_id",
    )
    missing = "HADM_ID" if table == "LABEVENTS" else "ICUSTAY_ID"
    incomplete = complete.with_columns(pl.lit(None, pl.Int64).alias(missing))
    position = rows.stay + np.where(rows.has_id, 0, complete.height)
    contents = pl.concat([complete, incomplete], how="vertical_relaxed")
    return RowPart(contents, position, is_fixed=False)


def _list_times(rows: ChartedRows) -> pl.DataFrame:
    times = pl.DataFrame({"CHARTTIME": rows.chart_times, "STORETIME": rows.store_times})
    caregiver = pl.int_range(pl.len()) * 7919 % _N_CAREGIVERS + _FIRST_CAREGIVER
    return times.cast(TIME).with_columns(CGID=caregiver)
