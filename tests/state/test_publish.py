"""A folder appears complete or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from flowsheet.errors import FlowsheetError
from flowsheet.state.publish import publish


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path):
    target = tmp_path / "target"

    def fail_halfway() -> None:
        with publish(target) as folder:
            (folder / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []
    with publish(target) as folder:
        (folder / "file").write_text("x")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["file"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_an_existing_folder_is_replaced(tmp_path: Path):
    target = tmp_path / "target"
    for name in ("old", "new"):
        with publish(target) as folder:
            (folder / name).write_text("x")
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_an_error_does_not_change_the_existing_folder(tmp_path: Path):
    target = tmp_path / "target"
    with publish(target) as folder:
        (folder / "file").write_text("1")
    with pytest.raises(FlowsheetError, match="No space left"), publish(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (target / "file").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
