"""Files in the PhysioNet 2019 challenge's format for tests: sound ones, to be spoilt by the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowsheet.cohort.sources.physionet2019 import COLUMNS
from flowsheet.config import CohortConfig

Rows = list[list[str]]


def rows(patient: int, hours: int = 12, first: int = 1, septic_from: int | None = None) -> Rows:
    """A patient's rows: hr, temp and lactate at times, fixed columns, hours, label."""
    rng = np.random.default_rng(patient)
    made = []
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
        made.append([row[column] for column in COLUMNS])
    return made


def text(lines: Rows, header: list[str] = COLUMNS) -> str:
    """The file's text."""
    return "".join("|".join(line) + "\n" for line in [header, *lines])


def write(folder: Path, patient: int, lines: Rows | str | bytes) -> Path:
    """Write one patient's file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"p{patient:06d}.psv"
    data = text(lines) if isinstance(lines, list) else lines
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def write_sound(folder: Path, patients: int = 4) -> Path:
    """A few sound patients; number 2 becomes septic, number 3's record begins at hour 5."""
    for patient in range(1, patients + 1):
        septic, first = (8 if patient == 2 else None), (5 if patient == 3 else 1)
        write(folder, patient, rows(patient, septic_from=septic, first=first))
    return folder


def cohort(path: Path | None, **more: object) -> CohortConfig:
    """A cohort of these files."""
    return CohortConfig.model_validate(
        {"name": "test", "source": "physionet2019", "path": path and str(path), **more}
    )
