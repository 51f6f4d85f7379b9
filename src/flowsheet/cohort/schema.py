"""The contract: four tables that every source fills and every later part may rely on.

Times are naive ``Datetime(us)``; a source without calendar times anchors each stay at ``EPOCH``.
``time`` is when a fact was true of the patient, ``known_at`` when it was in the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

EPOCH = datetime(2000, 1, 1)
"""Admission of every stay in sources that tell hours, not dates."""

TIME = pl.Datetime("us")

STAYS: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "subject_id": pl.Int64(),
    "site": pl.String(),
    "hospital_admitted_at": TIME,  # null: not told
    "admitted_at": TIME,
    "observed_from": TIME,  # when the record begins, where that is after admission; null: at admission
    "discharged_at": TIME,
    "age": pl.Float64(),  # years
    "sex": pl.String(),  # F, M or null
    "height_cm": pl.Float64(),
    "weight_kg": pl.Float64(),
    "unit": pl.String(),  # care unit
    "admission_type": pl.String(),
}

EVENTS: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "time": TIME,
    "known_at": TIME,
    "variable": pl.String(),
    "value": pl.Float64(),  # in the catalogue's unit
}

TREATMENTS: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "drug": pl.String(),
    "start": TIME,
    "end": TIME,  # equal to start: given at once
    "known_at": TIME,
    "dose": pl.Float64(),  # in `unit`: an amount when given at once, an amount per hour when it runs; null: not told
    "unit": pl.String(),
}

EPISODES: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "onset": TIME,
    "end": TIME,  # null: not over when the record ends
    "known_at": TIME,  # when the record first allowed to say so
}

TABLES: dict[str, dict[str, pl.DataType]] = {
    "stays": STAYS,
    "events": EVENTS,
    "treatments": TREATMENTS,
    "episodes": EPISODES,
}

SORT_KEYS: dict[str, list[str]] = {
    "stays": ["stay_id"],
    "events": ["stay_id", "time", "variable", "known_at"],
    "treatments": ["stay_id", "start", "drug", "end", "known_at"],
    "episodes": ["stay_id", "onset"],
}

UNIQUE_KEYS: dict[str, list[str]] = {
    "stays": ["stay_id"],
    "events": ["stay_id", "time", "variable"],
    "treatments": [*SORT_KEYS["treatments"], "dose", "unit"],
    "episodes": ["stay_id", "onset"],
}
"""What no two rows share, in the order in which rows stand."""


@dataclass(frozen=True)
class Tables:
    """The four tables of some stays, in memory: what an extract holds and what a served model is asked with."""

    stays: pl.DataFrame
    events: pl.DataFrame
    treatments: pl.DataFrame
    episodes: pl.DataFrame


def empty_table(table: str) -> pl.DataFrame:
    """A table of the contract without rows.

    >>> empty_table("episodes").columns
    ['stay_id', 'onset', 'end', 'known_at']
    """
    return pl.DataFrame(schema=TABLES[table])
