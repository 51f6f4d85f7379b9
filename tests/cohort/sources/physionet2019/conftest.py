"""Read psv files, change them, and pack them into a zip."""

from __future__ import annotations

import zipfile
from pathlib import Path

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.sources.physionet2019 import COLUMNS, PhysioNet2019
from flowsheet.testing import psv


def open_source(path: Path, **options: float) -> PhysioNet2019:
    return PhysioNet2019(path, PhysioNet2019.Options(**options))


def run_ingest(path: Path, target: Path, max_share: float = 1.0, **policies: str) -> Extract:
    config = psv.cohort_config(path, quarantine={"max_share": max_share, "rules": policies})
    return ingest(make_source(config), config, target, lambda line: None)


def set_cell(rows: psv.Rows, row: int, column: str, value: str) -> psv.Rows:
    rows[row][COLUMNS.index(column)] = value
    return rows


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_zip(folder: Path, members: list[str]) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for name in members:
            archive.write(folder / name, f"training/{name}")
    return path
