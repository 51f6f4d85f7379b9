"""The state folder is created, and an error explains why it cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowsheet.errors import UsageError
from flowsheet.state.home import home
from flowsheet.state.store import Store


def test_the_folder_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / "a" / "home"))
    assert home() == tmp_path / "a" / "home"
    assert list(home().iterdir()) == []


def test_a_folder_that_is_not_writable_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(UsageError, match="FLOWSHEET_HOME is not writable"):
        home()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_the_folder(tmp_path, monkeypatch, umask):
    monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / "home"))
    before = os.umask(umask)
    try:
        assert home().stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def test_others_lose_their_access_to_an_existing_folder(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    folder.mkdir()
    folder.chmod(0o755)
    monkeypatch.setenv("FLOWSHEET_HOME", str(folder))
    assert home().stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_shared_by_design_stays_shared(tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    monkeypatch.setenv("FLOWSHEET_HOME", str(folder))
    assert home().stat().st_mode & 0o7777 == 0o1777


def test_only_the_owner_can_read_a_store_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWSHEET_STORE", str(tmp_path / "large disk" / "store"))
    assert Store.open().root.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["what?", "two\nlines", "\udcff"])
def test_a_name_that_the_databases_do_not_allow_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / name))
    with pytest.raises(UsageError, match="question mark"):
        home()
    assert list(tmp_path.iterdir()) == []
