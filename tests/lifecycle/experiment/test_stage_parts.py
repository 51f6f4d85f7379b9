"""Stages that refer to others: shared, erased and cleaned together with these."""

from __future__ import annotations

import os
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from flowsheet.lifecycle.erasure.places import erase_place, find_stages
from flowsheet.lifecycle.erasure.tables import Ids
from flowsheet.lifecycle.experiment import stage as stage_module
from flowsheet.lifecycle.experiment.stage import Stage, run_stage
from flowsheet.lifecycle.experiment.stage import find_stages as find_by_prefix
from flowsheet.lifecycle.runtime.clean import delete_old_folders
from flowsheet.state.shared_stages import delete_shared_stage
from flowsheet.state.store import Store
from flowsheet.testing.sequences import toy_sequences
from flowsheet.windows.sequences import Sequences, save_shard
from tests.s3_server import folder

SHARDS = ("ab" * 32, "cd" * 32)
WINDOWS = "ef" * 32
DAY = 86_400


@pytest.fixture(autouse=True)
def nothing_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "_verified", {})


def run(key: str = WINDOWS, shards: tuple[str, ...] = SHARDS, text: str = "") -> Stage:
    """A stage that refers to two others, which a killed run may have built before."""

    def build_shard(path: Path) -> None:
        (path / "x").write_text(text, encoding="utf-8")

    def build(path: Path) -> list[Stage]:
        (path / "index").write_text(text, encoding="utf-8")
        return [run_stage("shard", shard, build_shard) for shard in shards]

    return run_stage("windows", key, build)


def read(stage: Stage) -> str:
    store = Path(stage.path).parents[1]
    parts = [(store / "shard" / key[:16] / "x").read_text(encoding="utf-8") for key in SHARDS]
    return (stage.folder / "index").read_text(encoding="utf-8") + "".join(parts)


def age(days: float, *stages: Path) -> None:
    for path in stages:
        for file in (path, *path.rglob("*")):
            os.utime(file, (time.time() - days * DAY,) * 2)


def test_parts_are_found_by_the_beginning_of_their_key():
    run()
    assert [stage.key for stage in find_by_prefix("shard", "cd")] == [SHARDS[1]]
    (Store.open().path("shard", SHARDS[1]) / "x").write_text("other", encoding="utf-8")
    stage_module._verified.clear()
    assert [stage.key for stage in find_by_prefix("shard", "")] == [SHARDS[0]]


def test_old_parts_are_kept_by_newer_stages():
    run()
    store = Store.open()
    alone = run_stage("shard", "12" * 32, lambda path: (path / "x").touch())
    age(100, *(store.root / "shard").iterdir())
    assert [old.path for old in delete_old_folders(30)] == [Path(alone.path)]
    age(100, store.path("windows", WINDOWS))
    assert sorted(old.kind for old in delete_old_folders(30)) == ["shard", "shard", "windows"]


@pytest.fixture
def machines(s3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLOWSHEET_STORE", "s3://hospital/store")
    monkeypatch.setenv("FLOWSHEET_LEASE_SECONDS", "1")

    def use(name: str) -> None:
        monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / name))

    return use


def test_parts_are_fetched_with_the_stage(machines):
    machines("first")
    built = run(text="1")
    machines("second")
    assert run(text="2").reused
    copy = str(Store.open().path("windows", WINDOWS))
    assert read(built.model_copy(update={"path": copy})) == "111"
    machines("third")
    assert len(list(find_by_prefix("shard", "ab"))) == 1


@pytest.mark.parametrize("is_damaged", [True, False])
def test_a_part_that_the_object_store_lost_is_built_and_shared_again(machines, is_damaged: bool):
    machines("first")
    run(text="1")
    if is_damaged:
        shared = folder(f"store/shard/{SHARDS[0][:16]}")
        (name,) = [entry.name for entry in shared.list() if entry.name.endswith("/x")]
        shared.write(name, b"other")
    else:
        delete_shared_stage(Store.open(), "shard", SHARDS[0])
    machines("second")
    again = run(text="2")
    assert not again.reused
    assert read(again) == "221"
    machines("third")
    assert run(text="3").reused
    machines("first")
    first = run(text="4")
    assert (first.reused, read(first)) == (True, "221")


def test_an_old_shared_part_is_kept_by_a_newer_stage(machines, monkeypatch):
    machines("first")
    run()
    shutil.rmtree(Store.open().root)
    kept = [old.kind for old in delete_old_folders(-1)]
    assert sorted(kept) == ["shared shard", "shared shard", "shared windows"]


def test_shards_of_an_erased_subject_and_what_refers_to_them_are_deleted():
    """Windows without the subject have no rows of it: models that were trained on them stay."""
    sequences = toy_sequences(stays=8, seed=1, raw=True)
    shards = [
        run_stage("shard", key, partial(write_shard, sequences.take(np.arange(first, first + 4))))
        for key, first in zip(SHARDS, (0, 4), strict=True)
    ]
    other = run_stage("windows", "01" * 32, partial(refer_to, shards))
    unrelated = run_stage("windows", "02" * 32, partial(refer_to, shards[1:]))
    ids = Ids(frozenset({int(sequences.subject_id[0])}), frozenset({int(sequences.stay_id[0])}))
    places = find_stages([Store.open()], ids)
    assert {place.path: place.rows > 0 for place in places} == {
        shards[0].path: True,
        other.path: False,
    }
    for place in places:
        erase_place(place, ids, {})
    assert not Path(other.path).exists()
    assert unrelated.folder.is_dir()


def write_shard(stays: Sequences, path: Path) -> None:
    save_shard(path, [stays])


def refer_to(shards: list[Stage], path: Path) -> list[Stage]:
    (path / "index").touch()
    return shards
