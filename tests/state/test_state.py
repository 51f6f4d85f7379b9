"""State that is whole or absent."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from flowsheet.errors import FlowsheetError, UsageError
from flowsheet.state.hashing import digest
from flowsheet.state.home import home
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.publish import publish
from flowsheet.state.store import Store


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path):
    target = tmp_path / "made"

    def fail_halfway() -> None:
        with publish(target) as folder:
            (folder / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []
    with publish(target) as folder:
        (folder / "whole").write_text("x")
        assert not target.exists()
    assert [p.name for p in target.iterdir()] == ["whole"]
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_a_failure_leaves_the_earlier_folder_alone(tmp_path: Path):
    target = tmp_path / "made"
    with publish(target) as folder:
        (folder / "good").write_text("1")
    with pytest.raises(FlowsheetError, match="No space left"), publish(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (target / "good").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_an_unwritable_home_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(UsageError, match="FLOWSHEET_HOME cannot be written to"):
        home()


def test_a_store_finds_what_was_published():
    store, key = Store.open(), digest("x")
    assert not store.has("extract", key)
    with store.lock("extract", key), publish(store.path("extract", key)) as folder:
        write_json(folder / "a.json", {"b": 1})
    assert store.has("extract", key)
    assert read_json(store.path("extract", key) / "a.json") == {"b": 1}
