"""The tables that the label reads beside the contract's, and the tables that it returns."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import polars as pl

from flowsheet.cohort.schema import TIME

SEPSIS = "sepsis"
"""The name of the response."""

ORDERED = "prescriptions"
"""The ``source`` of an antibiotic that was ordered."""

ANTIBIOTICS: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "drug": pl.String(),  # a drug of the catalogue, whose group separates e.g. antivirals
    "time": TIME,  # start; with date_only 00:00 of the first day
    "end": TIME,  # equal to time: a single dose; with date_only 24:00 of the last day
    "known_at": TIME,  # of the start; with date_only it counts as 24:00 of the first day or later
    "route": pl.String(),  # intravenous, enteral, topical, eye, ...; null: not recorded (counts)
    "source": pl.String(),  # ORDERED, or the table in which the dose was charted as given
    "date_only": pl.Boolean(),
}
"""Antibiotics of the whole hospital admission, repeated for each of its stays; any order,
duplicates allowed."""

CULTURES: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "time": TIME,  # when it was taken; with date_only 00:00 of the day
    "known_at": TIME,  # when the taking (not the result) was in the record
    "specimen": pl.String(),
    "date_only": pl.Boolean(),
}
"""Cultures of the whole hospital admission, repeated for each of its stays; any order, duplicates
allowed."""

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
    # the worst score of the trailing 24 h; null: nothing measured
    **{component: pl.Int8() for component in COMPONENTS},
    "total": pl.Int8(),  # null components count 0
    "known": pl.Int8(),  # how many components are not null
    "change": pl.Int8(),  # since the baseline, as the criterion ``rise`` uses it
}


@dataclass(frozen=True)
class LabelInputs:
    """The tables from which a batch of stays is labelled."""

    stays: pl.DataFrame
    """The contract's table."""
    events: pl.DataFrame
    """The contract's table, without implausible values. Of its variables none is required: those of
    SOFA are ``sofa.MEASURED`` (``po2`` is arterial, ``fio2`` in percent, ``vent`` and ``rrt`` 1 or
    0 as often as they are charted); SOFA-2 adds ``k``, ``ph``, ``bicar`` and ``weight``."""
    treatments: pl.DataFrame
    """The contract's table. SOFA uses infusions (end after start) of norepinephrine, epinephrine,
    dopamine and dobutamine, in mcg/kg per hour; SOFA-2 those of all vasopressors, inotropes and
    sedatives."""
    antibiotics: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ANTIBIOTICS))
    """Columns ``ANTIBIOTICS``."""
    cultures: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=CULTURES))
    """Columns ``CULTURES``."""

    def of_stays(self, stay_id: pl.Series) -> LabelInputs:
        """The rows of some stays."""
        is_chosen = pl.col("stay_id").is_in(stay_id.implode())
        return LabelInputs(
            **{table.name: getattr(self, table.name).filter(is_chosen) for table in fields(self)}
        )


@dataclass(frozen=True)
class Sepsis3Labels:
    """The labels of a batch of stays, and the results from which they follow."""

    episodes: pl.DataFrame
    """As in the contract, sorted by stay and onset."""
    suspicions: pl.DataFrame
    """Columns ``SUSPICIONS``: every suspicion whose window overlaps the stay, sorted by stay and
    time."""
    sofa: pl.DataFrame
    """Columns ``SOFA``, one row per hour of each stay, sorted."""
    counts: dict[str, int]
    """How many records were used, excluded and found; counts of several batches can be added."""
