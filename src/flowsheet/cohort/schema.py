"""The contract: four tables that every source fills and on which every later step relies.

Times are naive ``Datetime(us)``; a source without calendar times admits each stay at ``EPOCH``.
``time`` is when a fact was true of the patient, ``known_at`` when it was in the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

EPOCH = datetime(2000, 1, 1)
"""Admission of every stay in sources that record hours instead of dates."""

TIME = pl.Datetime("us")

STAYS: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "subject_id": pl.Int64(),
    "site": pl.String(),
    "hospital_admitted_at": TIME,  # null: not recorded
    "admitted_at": TIME,
    "observed_from": TIME,  # when the record begins, if after admission; null: at admission
    "discharged_at": TIME,  # end of the stay: discharge or, if earlier, death
    "died_at": TIME,  # null: alive, or not recorded
    "hospital_death": pl.Boolean(),  # died before leaving hospital; null: not recorded
    "comfort_measures_at": TIME,  # when care was first limited to comfort measures
    "age": pl.Float64(),  # years
    "sex": pl.String(),  # F, M or null
    "height_cm": pl.Float64(),
    "weight_kg": pl.Float64(),
    "unit": pl.String(),  # care unit
    "admission_type": pl.String(),
    "ethnicity": pl.String(),
    "insurance": pl.String(),
    # of the diagnoses of earlier hospital admissions; null: no earlier one is in the records
    "charlson": pl.Float64(),
    "elixhauser": pl.Float64(),  # weighted after van Walraven
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
    "end": TIME,  # equal to start: a single dose
    "known_at": TIME,
    "dose": pl.Float64(),  # amount of a single dose, amount per hour of an infusion; null: unknown
    "unit": pl.String(),  # of the amount
}

EPISODES: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "response": pl.String(),  # of what: sepsis, death, aki, ...
    "onset": TIME,
    "end": TIME,  # null: the episode lasts until the record ends
    "known_at": TIME,  # when the record first showed the onset
    "present_on_admission": pl.Boolean(),  # the patient came with it; null: not recorded
}

TABLES: dict[str, dict[str, pl.DataType]] = {
    "stays": STAYS,
    "events": EVENTS,
    "treatments": TREATMENTS,
    "episodes": EPISODES,
}

OPTIONAL_COLUMNS: dict[str, tuple[str, ...]] = {
    "stays": (
        "site",
        "hospital_admitted_at",
        "observed_from",
        "died_at",
        "hospital_death",
        "comfort_measures_at",
        "height_cm",
        "weight_kg",
        "unit",
        "admission_type",
        "ethnicity",
        "insurance",
        "charlson",
        "elixhauser",
    ),
    "events": (),
    "treatments": (),
    "episodes": ("response", "present_on_admission"),
}
"""Columns that a source need not fill; they are null then, or have the value of ``DEFAULTS``."""

LABEL = "label"
"""The response of episodes of which the source says nothing but that they are there."""

DEFAULTS: dict[str, dict[str, str]] = {"episodes": {"response": LABEL}}
"""The values of optional columns that are absent, where these are not null."""

OUTCOME_COLUMNS = ("died_at", "hospital_death")
"""Columns of stays that tell the future of the patient: no input of a prediction."""

SORT_KEYS: dict[str, list[str]] = {
    "stays": ["stay_id"],
    "events": ["stay_id", "time", "variable", "known_at"],
    "treatments": ["stay_id", "start", "drug", "end", "known_at"],
    "episodes": ["stay_id", "response", "onset"],
}

UNIQUE_KEYS: dict[str, list[str]] = {
    "stays": ["stay_id"],
    "events": ["stay_id", "time", "variable"],
    "treatments": [*SORT_KEYS["treatments"], "dose", "unit"],
    "episodes": SORT_KEYS["episodes"],
}
"""The columns of which no two rows have the same values, in the order by which rows are sorted."""


@dataclass(frozen=True)
class Tables:
    """The four tables of some stays, in memory: an extract's content, or a prediction request."""

    stays: pl.DataFrame
    events: pl.DataFrame
    treatments: pl.DataFrame
    episodes: pl.DataFrame


def to_contract(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the columns of the contract, in its order and types.

    Optional columns that it lacks are null, or have the value of ``DEFAULTS``; columns that the
    contract does not know are dropped.

    >>> episode = {"stay_id": [1], "onset": [EPOCH], "end": [None], "known_at": [EPOCH]}
    >>> to_contract("episodes", pl.DataFrame(episode))["present_on_admission"].to_list()
    [None]
    """
    missing = [name for name in OPTIONAL_COLUMNS[table] if name not in frame.columns]
    defaults = DEFAULTS.get(table, {})
    filled = [pl.lit(defaults.get(name)).alias(name) for name in missing]
    schema = TABLES[table]
    return frame.with_columns(filled).select(list(schema)).cast(pl.Schema(schema))


def empty_table(table: str) -> pl.DataFrame:
    """An empty table of the contract.

    >>> empty_table("episodes").columns
    ['stay_id', 'response', 'onset', 'end', 'known_at', 'present_on_admission']
    """
    return pl.DataFrame(schema=TABLES[table])
