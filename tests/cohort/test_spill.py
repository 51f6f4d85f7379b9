"""Rows of many stays are handed out group by group, whether they waited in memory or on disk."""

from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort import spill
from flowsheet.cohort.spill import Spill, remove_if_abandoned, spill_folder
from flowsheet.errors import FlowsheetError
from flowsheet.state.memory import limited_memory

ROWS = pl.DataFrame({"stay": [4, 0, 1, 4, 3, 0], "value": [1, 2, 3, 4, 5, 6]})
GROUPS = {0: [2, 3, 6], 1: [5], 2: [1, 4]}
"""Values by group, in the order of ``ROWS``, with two stays a group."""


@pytest.fixture(params=["memory", "disk"])
def filled(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spill:
    if request.param == "disk":
        monkeypatch.setattr(spill, "_MEMORY_LIMIT", 0)
        monkeypatch.setattr(spill, "_ROWS_TO_PARTITION", 1)
    rows = Spill(tmp_path / "spill", n_stays=5, stays_per_group=2)
    for start in range(0, ROWS.height, 2):
        rows.add("events", ROWS[start : start + 2])
    rows.finish_adding()
    return rows


def test_a_group_has_its_rows_in_the_order_in_which_they_were_added(filled: Spill) -> None:
    assert filled.n_groups == 3
    assert {group: filled.pop("events", group)["value"].to_list() for group in range(3)} == GROUPS


def test_rows_are_handed_out_once_and_their_files_are_removed(filled: Spill) -> None:
    for group in range(3):
        filled.pop("events", group)
    assert filled.pop("events", 0).is_empty()
    assert not list(filled.folder.glob("*"))


def test_a_kind_without_rows_has_the_given_schema(filled: Spill) -> None:
    assert filled.pop("treatments", 0, {"dose": pl.Float64()}).schema == {"dose": pl.Float64()}


def test_folders_of_killed_processes_are_removed_and_those_of_living_ones_are_not(
    flowsheet_home: Path,
) -> None:
    with spill_folder() as living:
        living.mkdir()
        killed = living.parent / "killed"
        killed.mkdir()
        killed.with_suffix(".lock").touch()
        with spill_folder():
            assert living.exists()
            assert not killed.exists()
    assert not list((flowsheet_home / "spill").iterdir())


def test_saved_rows_are_read_by_any_number_of_processes(filled: Spill) -> None:
    filled.save()
    for _ in range(2):
        other = Spill.load(filled.folder, n_stays=5, stays_per_group=2)
        assert {g: other.pop("events", g)["value"].to_list() for g in range(3)} == GROUPS
    assert {g: filled.pop("events", g)["value"].to_list() for g in range(3)} == GROUPS
    assert filled.rows == {group: len(values) for group, values in GROUPS.items()}


def test_a_folder_that_a_worker_of_a_killed_process_created_again_is_removed(
    flowsheet_home: Path,
) -> None:
    late = flowsheet_home / "spill" / "late"
    late.mkdir(parents=True)
    with spill_folder():
        assert not late.exists()


def test_rows_are_written_to_disk_where_the_process_may_use_little_memory(tmp_path):
    rows = pl.DataFrame({"stay": [0, 1, 5], "value": [1.0, 2.0, 3.0]})
    folders = [tmp_path / "little", tmp_path / "much"]
    for folder, limit in zip(folders, (100, 1_000_000), strict=True):
        with limited_memory(limit):
            partitioned = spill.Spill(folder, n_stays=6, stays_per_group=3)
        partitioned.add("events", rows)
        partitioned.finish_adding()
        assert partitioned.pop("events", 1).equals(rows[2:])
    assert [folder.exists() for folder in folders] == [True, False]


def test_a_saved_file_that_is_lost_is_an_error_and_no_group_without_its_rows(filled: Spill) -> None:
    filled.save()
    (filled.folder / "events-1-0.arrow").unlink()
    other = Spill.load(filled.folder, n_stays=5, stays_per_group=2)
    assert other.pop("events", 0)["value"].to_list() == GROUPS[0]
    with pytest.raises(FlowsheetError, match=r"are gone: events-1-0\.arrow"):
        other.pop("events", 1)


def test_a_folder_that_is_being_created_is_not_taken_for_one_of_a_killed_process(
    flowsheet_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locking = spill.try_lock

    def lock_after_another_has_begun(path: Path):
        monkeypatch.setattr(spill, "try_lock", locking)
        with spill_folder():
            pass
        return locking(path)

    monkeypatch.setattr(spill, "try_lock", lock_after_another_has_begun)
    with spill_folder() as folder:
        folder.mkdir()
        with spill_folder():
            assert folder.is_dir()
    assert not list((flowsheet_home / "spill").iterdir())


def test_what_is_written_after_the_end_is_removed_and_what_before_is_not(
    flowsheet_home: Path,
) -> None:
    with spill_folder() as folder:
        folder.mkdir()
        remove_if_abandoned(folder)
        assert folder.is_dir()
    folder.mkdir()
    remove_if_abandoned(folder)
    assert not folder.exists()
