"""What the label reads beside the contract's tables, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from flowsheet.cohort.schema import TIME

ANTIBIOTICS: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "drug": pl.String(),  # a drug of the catalogue, whose group tells antibacterials from antivirals
    "time": TIME,  # begin; with date_only 00:00 of the first day
    "end": TIME,  # equal to time: one dose; with date_only 24:00 of the last day
    "known_at": TIME,  # of the begin; with date_only no earlier than 24:00 of the first day is believed
    "route": pl.String(),  # the way: intravenous, enteral, topical, eye, ...; null: not told (counts)
    "source": pl.String(),  # prescriptions, inputevents_mv or inputevents_cv; for the counts only
    "date_only": pl.Boolean(),
}
"""Antibiotics of the whole hospital admission, repeated for each of its stays; any order, duplicates allowed."""

CULTURES: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "time": TIME,  # taken; with date_only 00:00 of the day
    "known_at": TIME,  # when it was in the record that it was taken (not the result)
    "specimen": pl.String(),
    "date_only": pl.Boolean(),
}
"""Cultures of the whole hospital admission, repeated for each of its stays; any order, duplicates allowed."""

SUSPICIONS: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "time": TIME,  # of suspicion
    "antibiotic_time": TIME,
    "culture_time": TIME,
    "known_at": TIME,
}

COMPONENTS = ("respiration", "coagulation", "liver", "cardiovascular", "cns", "renal")

SOFA: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "hour": pl.Int32(),  # h, counted from 1: the score at admission + h hours
    "time": TIME,
    **{
        component: pl.Int8() for component in COMPONENTS
    },  # worst of the trailing 24 h, null: nothing measured
    "total": pl.Int8(),  # what is null counts 0
    "known": pl.Int8(),  # how many components are not null
    "change": pl.Int8(),  # of the score since its baseline, as the rise counts it
}


@dataclass(frozen=True)
class Sepsis3Labels:
    """The label of a batch of stays and what it rests on."""

    episodes: pl.DataFrame
    """As in the contract, sorted by stay and onset."""
    suspicions: pl.DataFrame
    """Columns ``SUSPICIONS``: every suspicion whose window meets the stay, sorted by stay and time."""
    sofa: pl.DataFrame
    """Columns ``SOFA``, a row an hour of each stay, sorted."""
    counts: dict[str, int]
    """What was met, left out and found; every figure may be summed over batches."""
