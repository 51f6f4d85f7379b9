"""Folders by key: what was published is found, and the lock excludes other runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.locks import try_lock
from flowsheet.state.publish import publish
from flowsheet.state.store import Store


def test_a_store_finds_what_was_published():
    store, key = Store.open(), digest("x")
    assert not store.has("extract", key)
    with store.lock("extract", key), publish(store.path("extract", key)) as folder:
        write_json(folder / "a.json", {"b": 1})
    assert store.has("extract", key)
    assert read_json(store.path("extract", key) / "a.json") == {"b": 1}


def test_a_key_is_locked_for_the_duration_of_the_block():
    store = Store.open()
    with store.lock("extract", "a"), try_lock(store.lock_path("extract", "a")) as is_locked:
        assert not is_locked
    with try_lock(store.lock_path("extract", "a")) as is_locked:
        assert is_locked


def test_the_store_can_have_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLOWSHEET_STORE", str(tmp_path / "store"))
    assert Store.open().work_dir("model", "a").is_relative_to(tmp_path / "store")
