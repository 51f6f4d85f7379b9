"""What the disk has no room for is refused before it is written."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.state.capacity import LIMITS, check_disk_space

GB = 1_000_000_000


@pytest.fixture
def three_gb_free(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(50 * GB, 47 * GB, 3 * GB))


def test_the_error_has_the_figures_and_the_ways_out(three_gb_free, tmp_path):
    with pytest.raises(CheckFailed) as failed:
        check_disk_space("7,000 rows of windows", 20 * GB, tmp_path / "new", "take fewer columns")
    assert failed.value.what == "7,000 rows of windows: about 20.0 GB, and 3.0 GB are free"
    assert str(tmp_path / "new") in str(failed.value.where)
    assert "take fewer columns" in str(failed.value.todo)
    assert f"{LIMITS}=warn" in str(failed.value.todo)
    assert not (tmp_path / "new").exists()


def test_a_temporary_folder_is_not_named(three_gb_free, tmp_path):
    with pytest.raises(CheckFailed) as failed:
        check_disk_space("rows", 20 * GB, tmp_path / ".abc.0123.part" / "extract", "take fewer")
    assert failed.value.where == f"the disk of {tmp_path}"


def test_what_fits_passes(three_gb_free, tmp_path):
    check_disk_space("windows", 3 * GB, tmp_path / "a" / "b", "")


def test_what_may_be_there_already_is_not_counted_twice(three_gb_free, tmp_path):
    check_disk_space("windows", 20 * GB, tmp_path, "", replaced=17 * GB)


def test_the_user_may_begin_nevertheless(three_gb_free, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(LIMITS, "warn")
    check_disk_space("windows", 20 * GB, tmp_path, "")
    assert "warning: windows: about 20.0 GB" in capsys.readouterr().err


def test_another_reaction_is_refused(three_gb_free, tmp_path, monkeypatch):
    monkeypatch.setenv(LIMITS, "wran")
    with pytest.raises(UsageError, match="warn"):
        check_disk_space("windows", 20 * GB, tmp_path, "")
