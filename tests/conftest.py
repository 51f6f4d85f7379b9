"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The open data sets, or a skip that says how to have them."""
    folder = Path(os.environ.get("FLOWSHEET_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "physionet2019").is_dir():
        pytest.skip(f"the open data sets are not in {folder}; set FLOWSHEET_DATA to their folder")
    return folder


@pytest.fixture(autouse=True)
def flowsheet_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a state folder of its own."""
    home = tmp_path / "home"
    monkeypatch.setenv("FLOWSHEET_HOME", str(home))
    return home
