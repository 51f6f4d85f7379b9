"""A file's digest is computed once, unless the file was changed or could be without a trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowsheet.state import hashing
from flowsheet.state.hashing import file_digest, file_digest_once


@pytest.fixture
def digested(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files of which a digest was computed."""
    files: list[Path] = []

    def digest(path: Path) -> str:
        files.append(path)
        return file_digest(path)

    monkeypatch.setattr(hashing, "file_digest", digest)
    return files


def test_a_digest_is_computed_again_when_the_file_has_changed(tmp_path, digested, monkeypatch):
    monkeypatch.setattr(hashing, "_SETTLED_NS", 0)
    file = tmp_path / "file"
    file.write_text("one", encoding="utf-8")
    first = file_digest_once(file)
    assert file_digest_once(file) == first == file_digest(file)
    assert digested == [file]
    file.write_text("three", encoding="utf-8")
    assert file_digest_once(file) == file_digest(file) != first
    other = tmp_path / "other"
    other.write_text("seven", encoding="utf-8")
    other.replace(file)
    assert file_digest_once(file) == file_digest(file)
    assert digested == [file] * 3


def test_a_file_that_has_just_changed_is_read_again(tmp_path, digested):
    file = tmp_path / "file"
    for text in ("one", "two"):  # of one length, perhaps within one tick of the kernel's clock
        file.write_text(text, encoding="utf-8")
        assert file_digest_once(file) == file_digest(file)
    assert digested == [file] * 2
