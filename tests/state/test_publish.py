"""A folder appears complete or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from flowsheet.errors import FlowsheetError
from flowsheet.state.publish import publish, publish_file, sweep_parts


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path):
    target = tmp_path / "target"

    def fail_halfway() -> None:
        with publish(target) as folder:
            (folder / "half").write_text("x", encoding="utf-8")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []
    with publish(target) as folder:
        (folder / "file").write_text("x", encoding="utf-8")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["file"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_an_existing_folder_is_replaced(tmp_path: Path):
    target = tmp_path / "target"
    for name in ("old", "new"):
        with publish(target) as folder:
            (folder / name).write_text("x", encoding="utf-8")
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_an_error_does_not_change_the_existing_folder(tmp_path: Path):
    target = tmp_path / "target"
    with publish(target) as folder:
        (folder / "file").write_text("1", encoding="utf-8")
    with pytest.raises(FlowsheetError, match="No space left"), publish(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (target / "file").read_text(encoding="utf-8") == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_only_what_no_process_holds_is_swept(tmp_path: Path):
    target = tmp_path / "target"
    with publish(target) as held:
        (held / "file").write_text("x", encoding="utf-8")
        left = tmp_path / ".target.0123abcd.part"
        left.mkdir()
        left_file = tmp_path / ".other.0123abcd.part"
        left_file.write_text("x", encoding="utf-8")
        (tmp_path / ".target.part").write_text("a file of somebody else", encoding="utf-8")
        sweep_parts(tmp_path)
        assert held.exists()
        assert not left.exists()
        assert not left_file.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".target.part", "target"]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path):
    old = tmp_path / ".target.0123abcd.part.old"
    old.mkdir()
    (old / "file").write_text("old", encoding="utf-8")
    (tmp_path / ".target.0123abcd.part").mkdir()
    sweep_parts(tmp_path, "target")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (tmp_path / "target" / "file").read_text(encoding="utf-8") == "old"


def test_a_file_is_replaced_only_when_it_is_complete(tmp_path: Path):
    target = tmp_path / "new folder" / "scores.parquet"
    for content in ("old", "new"):
        with publish_file(target) as part:
            part.write_text(content, encoding="utf-8")
    with pytest.raises(RuntimeError), publish_file(target):
        raise RuntimeError
    assert target.read_text(encoding="utf-8") == "new"
    assert [path.name for path in target.parent.iterdir()] == ["scores.parquet"]
