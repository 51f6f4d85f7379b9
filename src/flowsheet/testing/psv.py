"""Valid files in the PhysioNet 2019 challenge's format, which a test can then damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowsheet.cohort.sources.physionet2019 import COLUMNS
from flowsheet.config import CohortConfig

Rows = list[list[str]]


def patient_rows(
    patient: int, hours: int = 12, first: int = 1, septic_from: int | None = None
) -> Rows:
    """One patient's rows, as text cells.

    Args:
        patient: The patient's number; also the seed of the values.
        hours: How many rows, one per hour.
        first: The first row's ICULOS.
        septic_from: ICULOS from which the label is 1; None: never.
    """
    rng = np.random.default_rng(patient)
    rows = []
    for hour in range(first, first + hours):
        row = dict.fromkeys(COLUMNS, "NaN")
        row |= {"HR": str(round(rng.uniform(60, 110))), "FiO2": "0.4"}
        if hour % 3 == 0:
            row |= {"Temp": f"{rng.uniform(36, 39):.1f}", "Lactate": f"{rng.uniform(0.5, 4):.1f}"}
        row |= {
            "Age": "63.5",
            "Gender": str(patient % 2),
            "Unit1": "1",
            "Unit2": "0",
            "HospAdmTime": "-5.25",
        }
        row |= {
            "ICULOS": str(hour),
            "SepsisLabel": str(int(septic_from is not None and hour >= septic_from)),
        }
        rows.append([row[column] for column in COLUMNS])
    return rows


def format_psv(lines: Rows, header: list[str] = COLUMNS) -> str:
    """The text of a file with these rows."""
    return "".join("|".join(line) + "\n" for line in [header, *lines])


def write_patient(folder: Path, patient: int, lines: Rows | str | bytes) -> Path:
    """Write one patient's file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"p{patient:06d}.psv"
    data = format_psv(lines) if isinstance(lines, list) else lines
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def write_patients(folder: Path, patients: int = 4) -> Path:
    """Write valid files; patient 2 becomes septic, the record of patient 3 begins at hour 5."""
    for patient in range(1, patients + 1):
        septic_from = 8 if patient == 2 else None
        first = 5 if patient == 3 else 1
        rows = patient_rows(patient, septic_from=septic_from, first=first)
        write_patient(folder, patient, rows)
    return folder


def cohort_config(path: Path | None, **fields: object) -> CohortConfig:
    """The configuration of a cohort of these files."""
    return CohortConfig.model_validate(
        {"name": "test", "source": "physionet2019", "path": path and str(path), **fields}
    )
