"""The state folder is created, and an error explains why it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowsheet.errors import UsageError
from flowsheet.state.home import home


def test_the_folder_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / "a" / "home"))
    assert home() == tmp_path / "a" / "home"
    assert list(home().iterdir()) == []


def test_a_folder_that_is_not_writable_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(UsageError, match="FLOWSHEET_HOME is not writable"):
        home()
