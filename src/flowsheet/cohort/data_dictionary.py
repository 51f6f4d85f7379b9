"""The columns of the contract for people: type, unit, whether it must be there, and meaning.

``flowsheet schema`` prints them, and writes empty tables to start from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from flowsheet.cohort.schema import OPTIONAL_COLUMNS, TABLES, TIME, empty_table

TYPES: dict[pl.DataType, str] = {
    pl.Int64(): "whole number",
    pl.Float64(): "number",
    pl.String(): "text",
    pl.Boolean(): "true or false",
    TIME: "timestamp",
}

_MEANINGS: dict[str, dict[str, tuple[str, str]]] = {
    "stays": {
        "stay_id": ("", "one ICU stay; unique"),
        "subject_id": ("", "the patient"),
        "site": ("", "hospital or ward"),
        "hospital_admitted_at": ("local time", "admission to the hospital"),
        "admitted_at": ("local time", "admission to the ICU"),
        "observed_from": ("local time", "when the record begins, if later than the admission"),
        "discharged_at": ("local time", "end of the stay: discharge or, if earlier, death"),
        "died_at": ("local time", "death; empty: alive, or not recorded"),
        "hospital_death": ("", "died before leaving the hospital; empty: not recorded"),
        "comfort_measures_at": ("local time", "when care was first limited to comfort measures"),
        "age": ("years", "age at admission"),
        "sex": ("", "F, M or empty"),
        "height_cm": ("cm", "height"),
        "weight_kg": ("kg", "weight"),
        "unit": ("", "care unit"),
        "admission_type": ("", "such as emergency or elective"),
        "ethnicity": ("", "as recorded"),
        "insurance": ("", "as recorded"),
        "charlson": ("", "Charlson's score of earlier admissions; empty: there is none"),
        "elixhauser": ("", "van Walraven's score of earlier admissions; empty: there is none"),
    },
    "events": {
        "stay_id": ("", "a row of stays"),
        "time": ("local time", "when it was true of the patient"),
        "known_at": ("local time", "when it was in the record"),
        "variable": ("", "a name of `flowsheet ls variables`"),
        "value": ("the variable's", "the measured value"),
    },
    "treatments": {
        "stay_id": ("", "a row of stays"),
        "drug": ("", "a name of `flowsheet ls drugs`"),
        "start": ("local time", "start of the exposure"),
        "end": ("local time", "its end; equal to start: a single dose"),
        "known_at": ("local time", "when it was in the record"),
        "dose": ("the drug's, per hour", "amount of a single dose, or an infusion's per hour"),
        "unit": ("", "unit of the amount: the drug's in `flowsheet ls drugs`"),
    },
    "episodes": {
        "stay_id": ("", "a row of stays"),
        "response": ("", "what it is an episode of: sepsis, death, aki, ...; absent: label"),
        "onset": ("local time", "when the condition began"),
        "end": ("local time", "when it ended; empty: it lasts until the record ends"),
        "known_at": ("local time", "when the record first showed the onset"),
        "present_on_admission": ("", "the patient came with it; empty: not recorded"),
    },
}
"""{table: {column: (unit, meaning)}}."""


@dataclass(frozen=True)
class Column:
    """A column of the contract."""

    table: str
    column: str
    type: str
    unit: str
    is_required: bool
    meaning: str


def list_columns() -> list[Column]:
    """All columns of the four tables, in the contract's order."""
    columns = []
    for table, dtypes in TABLES.items():
        for name, dtype in dtypes.items():
            unit, meaning = _MEANINGS[table][name]
            is_required = name not in OPTIONAL_COLUMNS[table]
            columns.append(Column(table, name, TYPES[dtype], unit, is_required, meaning))
    return columns


def write_templates(folder: Path, file_format: Literal["parquet", "csv"]) -> list[Path]:
    """Write the four tables without rows to a folder, which may hold no file of these names.

    Raises:
        FileExistsError: one of the files is there; none is written then.
    """
    files = {table: folder / f"{table}.{file_format}" for table in TABLES}
    for file in files.values():
        if file.exists():
            raise FileExistsError(str(file))
    folder.mkdir(parents=True, exist_ok=True)
    for table, file in files.items():
        if file_format == "parquet":
            empty_table(table).write_parquet(file)
        else:
            empty_table(table).write_csv(file)
    return list(files.values())
