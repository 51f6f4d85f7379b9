"""``flowsheet clean``: what is old is listed, and deleted on request only."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cli import main
from flowsheet.lifecycle.erasure.places import find_other_files
from flowsheet.lifecycle.erasure.tables import Ids
from flowsheet.lifecycle.runtime import clean
from flowsheet.serving.answer_files import ANSWERS, AnswerWriter
from flowsheet.state.erasures import exclude_others, use_records
from flowsheet.state.locks import try_lock
from flowsheet.state.store import Store


@pytest.fixture
def folders(flowsheet_home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Two extracts, of which a registered model needs one, a model, and an unfinished study."""
    store = Store.open()
    keys = {"needed": "a" * 64, "old": "b" * 64}
    made = {name: store.path("extract", key) for name, key in keys.items()}
    made["model"] = store.path("model", "c" * 64)
    for path in made.values():
        path.mkdir(parents=True)
        (path / "stage.json").write_text("{}", encoding="utf-8")
    made["unfinished"] = store.work_dir("model", "d" * 64)
    needed = {keys["needed"]: "demo-lstm/1"}
    monkeypatch.setattr(clean, "list_extracts_of_registered_models", lambda: needed)
    return made


def test_nothing_is_deleted_without_being_asked(folders: dict[str, Path], capsys):
    main(["clean", "--older-than", "0"])
    assert all(path.is_dir() for path in folders.values())
    printed = capsys.readouterr().out
    assert "kept: demo-lstm/1 needs it" in printed
    assert "can be deleted with --delete" in printed


def test_what_is_old_is_deleted_but_for_what_a_registered_model_needs(
    folders: dict[str, Path], capsys
):
    main(["clean", "--older-than", "0", "--delete", "--json"])
    assert [name for name, path in folders.items() if path.is_dir()] == ["needed"]
    assert len(json.loads(capsys.readouterr().out)) == 4


def test_what_is_new_is_kept(folders: dict[str, Path], capsys):
    main(["clean", "--delete"])
    assert all(path.is_dir() for path in folders.values())


@pytest.mark.parametrize("use", [use_records, exclude_others])
def test_nothing_is_deleted_while_records_are_used_or_erased(
    folders: dict[str, Path], capsys, use: Callable[[], AbstractContextManager[None]]
):
    with use(), pytest.raises(SystemExit) as ended:
        main(["clean", "--older-than", "0", "--delete"])
    assert ended.value.code == 1
    assert "uses the records" in capsys.readouterr().err
    assert all(path.is_dir() for path in folders.values())


def test_no_run_begins_while_old_folders_are_deleted(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    locks: list[bool] = []

    def delete(path: Path):
        with try_lock(path.parents[2] / ".records.lock") as is_free:
            locks.append(is_free)

    monkeypatch.setattr(clean.shutil, "rmtree", delete)
    clean.delete_old_folders(0)
    assert locks == [False, False, False]


def test_answers_of_servers_are_deleted_by_the_day_and_only_if_they_are_named(
    folders: dict[str, Path], tmp_path: Path, capsys
):
    writer = AnswerWriter(tmp_path / "answers", "m")
    days = [date(2031, 5, 6), date(2031, 5, 7)]
    for day in days:
        writer.write(day, pl.DataFrame(schema=ANSWERS))
    old, new = (tmp_path / "answers" / "m" / f"{day}" for day in days)
    year_ago = time.time() - 365 * 86_400
    for path in (old, *old.iterdir()):
        os.utime(path, (year_ago, year_ago))
    main(["clean", "--older-than", "300", "--delete"])
    assert "kept: flowsheet outcomes needs it" in capsys.readouterr().out
    assert old.is_dir()
    main(["clean", "--older-than", "300", "--answers", "--delete"])
    assert not old.exists()
    assert len(list(new.iterdir())) == 1
    assert folders["old"].is_dir()


def test_other_records_below_a_folder_of_answers_are_left_alone(folders, tmp_path: Path):
    """A server was told to keep its answers in a folder that has other records, too."""
    AnswerWriter(tmp_path, "m")
    others = [
        tmp_path / "projects" / "my-own-work" / "notes.txt",
        tmp_path / "extracts" / "2031-05-06" / "stays.parquet",
    ]
    for file in others:
        file.parent.mkdir(parents=True)
        pl.DataFrame({"subject_id": [1, 2], "stay_id": [10, 20]}).write_parquet(file)
    main(["clean", "--older-than", "0", "--answers", "--delete"])
    assert all(file.is_file() for file in others)
    assert find_other_files(Ids(frozenset({1}), frozenset({10}))) == []
