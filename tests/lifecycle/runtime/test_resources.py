"""How many flow runs fit into a machine, and trainings that wait for memory."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from flowsheet.lifecycle.runtime import memory_reservations
from flowsheet.lifecycle.runtime.memory_reservations import reserved_memory
from flowsheet.lifecycle.runtime.resources import default_worker_limit, usable_cores
from flowsheet.state.memory import usable_memory

GB = 1_000_000_000


def make_cgroup(folder: Path, memory: str, cpu: str) -> Path:
    (folder / "memory.max").write_text(memory, encoding="ascii")
    (folder / "cpu.max").write_text(cpu, encoding="ascii")
    return folder


def test_the_limits_of_a_container_count(tmp_path):
    cgroup = make_cgroup(tmp_path, f"{4 * GB}\n", "100000 100000\n")
    assert usable_memory(cgroup) == 3.6 * GB
    assert usable_cores(cgroup) == 1
    assert default_worker_limit(cgroup) == 2  # a retraining waits for a training in another slot


def test_the_limits_of_a_service_and_of_the_slice_above_it_count(tmp_path):
    membership = tmp_path / "membership"
    membership.write_text("0::/work.slice/flowsheet.service\n", encoding="ascii")
    service = tmp_path / "work.slice" / "flowsheet.service"
    service.mkdir(parents=True)
    make_cgroup(service.parent, f"{4 * GB}\n", "max 100000\n")
    make_cgroup(service, "max\n", "100000 100000\n")
    assert usable_memory(tmp_path, membership) == 3.6 * GB
    assert usable_cores(tmp_path, membership) == 1


def test_limits_of_the_first_version_of_control_groups_count(tmp_path):
    membership = tmp_path / "membership"
    membership.write_text("5:cpu:/\n4:memory:/worker\n0::/\n", encoding="ascii")
    (tmp_path / "memory" / "worker").mkdir(parents=True)
    limits = {tmp_path / "memory": 2**63 - 4096, tmp_path / "memory" / "worker": 4 * GB}
    for folder, limit in limits.items():
        (folder / "memory.limit_in_bytes").write_text(f"{limit}\n", encoding="ascii")
    assert usable_memory(tmp_path, membership) == 3.6 * GB


def test_without_limits_the_machine_counts(tmp_path):
    unlimited = make_cgroup(tmp_path, "max\n", "max 100000\n")
    assert usable_memory(unlimited) == usable_memory(tmp_path / "missing") > GB
    assert usable_cores(unlimited) == usable_cores(tmp_path / "missing") >= 1


@pytest.fixture(autouse=True)
def _quick_polls(monkeypatch):
    monkeypatch.setattr(memory_reservations, "_POLL_SECONDS", 0.01)


class Training:
    """A training in a thread, which goes on until it is told to end."""

    def __init__(self, amount: int, *, alone: bool = False) -> None:
        self.lines: list[str] = []
        self.has_begun, self._may_end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(amount, alone), daemon=True)
        self._thread.start()

    def _run(self, amount: int, alone: bool) -> None:
        with reserved_memory(amount, self.lines.append, alone=alone, total=10 * GB):
            self.has_begun.set()
            self._may_end.wait(30)

    def begins(self, seconds: float = 30) -> bool:
        return self.has_begun.wait(seconds)

    def end(self) -> None:
        self._may_end.set()
        self._thread.join(30)


def test_trainings_wait_until_there_is_memory():
    first, second = Training(4 * GB), Training(6 * GB)
    assert first.begins()
    assert second.begins()
    third = Training(4 * GB)
    assert not third.begins(0.2)
    assert third.lines == ["waiting until other trainings of this machine have freed memory"]
    first.end()
    assert third.begins()
    second.end()
    third.end()


def test_a_training_larger_than_the_machine_runs_by_itself():
    small = Training(GB)
    assert small.begins()
    huge = Training(100 * GB)
    assert not huge.begins(0.2)
    small.end()
    assert huge.begins()
    huge.end()


def test_a_training_that_runs_alone_waits_for_those_before_it_and_those_after_wait_for_it():
    before = Training(GB)
    assert before.begins()
    alone = Training(GB, alone=True)
    assert not alone.begins(0.2)
    after, other_alone = Training(GB), Training(GB, alone=True)
    assert not after.begins(0.2)
    before.end()
    assert alone.begins() or other_alone.begins(0)
    begun, waiting = (alone, other_alone) if alone.begins(0) else (other_alone, alone)
    assert not after.begins(0.2)
    begun.end()
    assert waiting.begins()
    waiting.end()
    assert after.begins()
    after.end()


def test_the_reservation_of_a_killed_process_does_not_count(flowsheet_home):
    first = Training(GB)
    assert first.begins()
    (running,) = flowsheet_home.glob("memory/*/running-*")
    first.end()
    assert not running.exists()
    killed = running.with_name(f"running-{9 * GB}-abc")
    killed.touch()
    second = Training(5 * GB)
    assert second.begins()
    second.end()
    assert not killed.exists()
