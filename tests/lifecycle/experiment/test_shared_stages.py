"""Stages in an object store: built once by one of several machines, whole or absent, verified."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from flowsheet.errors import FlowsheetError, Unreachable
from flowsheet.lifecycle.experiment import stage as stage_module
from flowsheet.lifecycle.experiment.stage import Stage, find_stage, is_complete, run_stage
from flowsheet.lifecycle.runtime.clean import delete_old_folders
from flowsheet.state.erasures import ErasedIds, use_records
from flowsheet.state.hashing import digest
from flowsheet.state.leases import hold_lease
from flowsheet.state.shared_stages import delete_shared_stage
from flowsheet.state.store import Store
from tests.s3_server import S3Server, folder

KEY = digest("a stage")


@pytest.fixture(autouse=True)
def shared_store(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWSHEET_STORE", "s3://hospital/store")
    monkeypatch.setenv("FLOWSHEET_LEASE_SECONDS", "1")


class Machine:
    """A state folder of its own; its stages have its name, so that copies are known."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.monkeypatch = home, monkeypatch

    def run(self) -> Stage:
        self.monkeypatch.setenv("FLOWSHEET_HOME", str(self.home))

        def build(stage: Path) -> None:
            (stage / "inner").mkdir()
            (stage / "inner" / "rows").write_text(self.home.name, encoding="utf-8")
            (stage / "sizes").write_text("1", encoding="utf-8")

        return run_stage("windows", KEY, build)

    def read(self, stage: Stage) -> str:
        self.monkeypatch.setenv("FLOWSHEET_HOME", str(self.home))
        return (stage.folder / "inner" / "rows").read_text(encoding="utf-8")


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "first", monkeypatch)


@pytest.fixture
def second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "second", monkeypatch)


def test_a_stage_is_built_by_one_machine_and_used_by_all(first: Machine, second: Machine):
    built = first.run()
    assert not built.reused
    assert second.read(built) == "first"  # handed on as a reference
    found = second.run()
    assert found.reused
    assert found.seconds == built.seconds
    assert not list((folder("store") / ".leases").list())


def test_one_stage_is_found_without_a_list_of_all(
    first: Machine, second: Machine, monkeypatch: pytest.MonkeyPatch
):
    built = first.run()
    monkeypatch.delattr(stage_module, "list_shared_stages")
    monkeypatch.setenv("FLOWSHEET_HOME", str(second.home))
    found = find_stage("windows", KEY)
    assert found
    assert (found.reused, found.seconds) == (True, built.seconds)
    assert second.read(found) == "first"
    assert find_stage("windows", KEY[:16] + "0" * 48) is None
    assert find_stage("windows", "0" * 64) is None


@pytest.mark.parametrize("name", ["inner/rows", "stage.json"])
def test_a_half_uploaded_stage_is_never_read(
    s3: S3Server, first: Machine, second: Machine, name: str
):
    s3.stop_before = name
    with pytest.raises(Unreachable):
        first.run()
    s3.stop_before = None
    assert second.run().reused is False
    assert first.read(first.run()) == "second"  # the first to complete it has decided
    files = [entry.name for entry in folder("store/windows").list()]
    assert len(files) == 3, "nothing is left of the interrupted upload"


def test_a_stage_that_an_outage_kept_here_is_uploaded_later(
    s3: S3Server, first: Machine, second: Machine
):
    s3.stop_before = "PUT /hospital/store/windows"
    with pytest.raises(Unreachable):
        first.run()
    s3.stop_before = None
    assert first.run().reused
    assert second.read(second.run()) == "first"


def test_damaged_objects_are_not_loaded_but_built_again(
    first: Machine, second: Machine, capsys: pytest.CaptureFixture[str]
):
    first.run()
    (rows,) = [e.name for e in folder("store").list() if e.name.endswith("rows")]
    folder("store").write(rows, b"other")
    assert second.read(second.run()) == "second"
    assert "its sha256 differs; building it again" in " ".join(capsys.readouterr().err.split())
    assert first.read(first.run()) == "second"


def test_a_damaged_copy_is_fetched_again(first: Machine, second: Machine):
    first.run()
    copy = second.run()
    (Path(copy.path) / "inner" / "rows").write_text("other", encoding="utf-8")
    (Path(copy.path) / "stage.json").touch()  # as for another process
    assert second.run().reused
    assert second.read(copy) == "first"


def test_what_was_deleted_there_is_not_used_here(first: Machine, second: Machine):
    first.run()
    second.run()
    delete_shared_stage(Store.open(), "windows", KEY)
    assert not is_complete("windows", KEY)
    assert first.run().reused is False


def test_what_the_object_store_lost_is_uploaded_again(first: Machine, second: Machine):
    first.run()
    folder("store").delete(entry.name for entry in folder("store").list())
    assert first.run().reused
    assert second.read(second.run()) == "first"


def test_clean_deletes_shared_stages(first: Machine, second: Machine):
    first.run()
    kinds = [old.kind for old in delete_old_folders(0)]
    assert sorted(kinds) == ["shared windows", "windows"]
    assert [entry.name for entry in folder("store").list()] == ["id"]
    assert second.run().reused is False


def test_erased_subjects_are_shared(first: Machine, second: Machine):
    first.run()
    ErasedIds.load().add([7], [70])
    second.run()
    assert ErasedIds.load().find("subject", [6, 7]) == {7}
    ErasedIds.load().add([6], [])
    first.run()
    assert ErasedIds.load().find("subject", [6, 7]) == {6, 7}
    assert ErasedIds.load().find_day("stay", 70)


def erase_on(machine: Machine, *kinds: str) -> None:
    """What an erasure does to shared stages."""
    machine.monkeypatch.setenv("FLOWSHEET_HOME", str(machine.home))
    ErasedIds.load().add([7], [70])
    for kind in kinds:
        delete_shared_stage(Store.open(), kind, KEY)


def test_a_copy_that_another_machine_erased_from_is_not_used(first: Machine, second: Machine):
    first.run()
    found = second.run()
    assert second.read(found) == "first"
    erase_on(first, "windows")
    with pytest.raises(FlowsheetError, match="the stage windows is not as it was written"):
        second.read(found)
    assert not Path(found.path).exists()


@pytest.mark.parametrize("is_first", [True, False])
def test_what_is_built_during_an_erasure_elsewhere_is_not_shared(
    first: Machine, second: Machine, is_first: bool
):
    def build(stage: Path) -> None:
        erase_on(first)
        second.monkeypatch.setenv("FLOWSHEET_HOME", str(second.home))
        (stage / "rows").write_text("of the subject", encoding="utf-8")

    second.monkeypatch.setenv("FLOWSHEET_HOME", str(second.home))
    if not is_first:
        ErasedIds.load().add([5], [50])
    with pytest.raises(FlowsheetError, match="another machine has erased subjects") as error:
        run_stage("windows", KEY, build)
    assert "start again" in str(error.value.todo)
    assert not Store.open().has("windows", KEY)
    assert [entry.name for entry in folder("store").list()] == ["erased.json"]


def test_a_later_stage_of_a_run_notices_an_erasure_elsewhere(first: Machine, second: Machine):
    second.run()
    with use_records():
        second.run()
        erase_on(first)
        with pytest.raises(FlowsheetError, match="another machine has erased subjects"):
            second.run()
    assert second.run().reused


def test_a_stage_that_an_outage_kept_here_is_not_shared_after_an_erasure(
    s3: S3Server, first: Machine, second: Machine, monkeypatch: pytest.MonkeyPatch
):
    def fail(*args: object, **options: object) -> None:
        raise Unreachable("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(stage_module, "share_stage", fail)
        with pytest.raises(Unreachable):
            second.run()
    erase_on(first)
    assert second.run().reused is False
    assert second.run().reused


def test_a_lease_is_waited_for_and_taken_over_when_its_holder_is_dead(s3: S3Server):
    waits: list[str] = []
    order: list[str] = []

    def work(name: str) -> None:
        with hold_lease(folder("store"), "lease", name, lambda: waits.append(name)):
            order.append(f"{name} begins")
            threading.Event().wait(1.5)  # longer than the lease lasts without renewal
            order.append(f"{name} ends")

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waits) == 1
    assert [line[2:] for line in order] == ["begins", "ends"] * 2
    folder("store").write("lease", b'{"owner": "x", "holder": "killed", "seconds": 1}')
    with hold_lease(folder("store"), "lease", "c", lambda: waits.append("c")):
        assert waits[-1] == "c"
    dead = {"owner": "x", "holder": "c", "host": socket.gethostname(), "seconds": 600}
    folder("store").write("lease", json.dumps(dead).encode())
    with hold_lease(folder("store"), "lease", "c"):  # of a killed process of this state folder
        pass
    assert not folder("store").list()


def test_the_lease_of_a_copied_state_folder_on_another_machine_is_waited_for(s3: S3Server):
    waits: list[str] = []
    other = {"owner": "x", "holder": "same id", "host": "another", "seconds": 1}
    folder("store").write("lease", json.dumps(other).encode())
    with hold_lease(folder("store"), "lease", "same id", lambda: waits.append("waited")):
        assert waits == ["waited"]
