"""JSON files are replaced atomically."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowsheet.state.json_files import read_json, write_json


def test_what_is_written_can_be_read(tmp_path: Path):
    write_json(tmp_path / "a.json", {"b": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json") == {"b": [1, 2.5, None]}


def test_an_error_does_not_change_the_existing_file(tmp_path: Path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1})
    circular: list[object] = []
    circular.append(circular)
    with pytest.raises(ValueError, match="Circular"):
        write_json(path, circular)
    assert read_json(path) == {"b": 1}
    assert list(tmp_path.iterdir()) == [path]
