"""A group of processes trains one model, and ends with a clear error when one of them is lost."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowsheet.config import ComputeConfig, ExperimentConfig, ModelConfig, validate_config
from flowsheet.errors import FlowsheetError, MemberLost, UsageError
from flowsheet.lifecycle.experiment import dask_members, device, training_group, training_memory
from flowsheet.lifecycle.experiment.group_member import ALIVE, CALL, DONE, FAILED, make_sendable
from flowsheet.lifecycle.experiment.training_group import (
    Member,
    TrainingGroup,
    choose_fit,
    describe_group,
)
from flowsheet.models.base import MODELS, Context, Model, Pruned
from flowsheet.progress import ProgressLine
from flowsheet.testing.sequences import toy_sequences
from flowsheet.tuning.trial import fit_here
from flowsheet.windows.sequences import Sequences
from tests.tiny import experiment

TWO = ComputeConfig(name="two", processes_per_training=2)
Play = Callable[[Connection], None]


@pytest.fixture(autouse=True)
def causes_come_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_group, "_CAUSE_SECONDS", 0.2)
    monkeypatch.setattr(training_group, "_LISTEN_SECONDS", 0.1)


def lead(*members: Play, **context: Any) -> None:
    """Lead members that are threads with a connection."""
    group = TrainingGroup("lstm", TWO, None)
    threads, seats = [], []
    for play in members:
        own_end, other_end = Pipe()
        seats.append(Member("10.0.0.2", own_end))
        threads.append(threading.Thread(target=play, args=(other_end,)))
    for thread in threads:
        thread.start()
    try:
        group._lead(seats, Context(seed=1, **context))
    finally:
        for seat in seats:
            seat.connection.close()
        for thread in threads:
            thread.join(10)


def finish(connection: Connection) -> None:
    connection.send((DONE, None))


def wait_for_the_end(connection: Connection) -> None:
    with contextlib.suppress(EOFError):
        connection.recv()


def fail_with(error: Exception) -> Play:
    return lambda connection: connection.send((FAILED, error))


def call(connection: Connection, name: str, *arguments: Any) -> Any:
    connection.send((CALL, (name, arguments)))
    return connection.recv()


def test_the_leader_answers_the_calls_of_the_first_member() -> None:
    answers, lines = [], []

    def report(connection: Connection) -> None:
        answers.append(call(connection, "score", np.array([0, 1]), np.array([0.2, 0.4])))
        call(connection, "progress", ProgressLine("epoch 1", "epoch", 1, 3, 0.5))
        connection.send((DONE, None))

    lead(report, finish, score=lambda y, p: float(p.sum()), progress=lines.append)
    assert answers == [(pytest.approx(0.6), None)]
    assert lines == ["epoch 1"]
    assert (lines[0].unit, lines[0].step, lines[0].total, lines[0].score) == ("epoch", 1, 3, 0.5)  # type: ignore[attr-defined]


def test_a_call_that_fails_ends_the_fit_with_its_own_error() -> None:
    """The first member hears of it before, and removes its checkpoint."""
    heard = []

    def report(connection: Connection) -> None:
        heard.append(call(connection, "report_score", 1, 0.5))
        connection.send((FAILED, MemberLost("of no interest")))

    def prune(epoch: int, score: float) -> None:
        raise Pruned

    with pytest.raises(Pruned):
        lead(report, finish, report_score=prune)
    assert isinstance(heard[0][1], Pruned)


def test_the_cause_is_reported_and_not_that_others_have_lost_a_member() -> None:
    with pytest.raises(ValueError, match="the cause"):
        lead(fail_with(MemberLost("a consequence")), fail_with(ValueError("the cause")))
    with pytest.raises(MemberLost, match="all that is known"):
        lead(fail_with(MemberLost("all that is known")), wait_for_the_end)


def test_a_member_that_ends_without_a_word_is_named() -> None:
    with pytest.raises(FlowsheetError, match=r"process 2 of 2 .* lstm .* ended on 10\.0\.0\.2"):
        lead(wait_for_the_end, lambda connection: connection.close())


def test_a_stopped_member_is_named_while_the_others_say_that_they_are_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_group, "SILENT_SECONDS", 1)

    def live(connection: Connection) -> None:
        with contextlib.suppress(OSError):
            for _ in range(200):
                connection.send((ALIVE, None))
                time.sleep(0.05)

    with pytest.raises(MemberLost, match=r"process 2 of 2 .* lstm .* not answered for 1 s") as lost:
        lead(live, wait_for_the_end)
    assert lost.value.where == "10.0.0.2"


def test_members_that_say_that_they_are_alive_are_waited_for_and_their_cause_is_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_group, "SILENT_SECONDS", 1)

    def live(connection: Connection) -> None:
        with contextlib.suppress(OSError):
            for _ in range(40):
                connection.send((ALIVE, None))
                time.sleep(0.05)
            connection.send((DONE, None))

    lead(live, live)
    with pytest.raises(MemberLost, match="a consequence"):
        lead(fail_with(MemberLost("a consequence")), live)


def test_the_time_of_a_call_is_nobodys_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is that in which this process is stopped, as by Ctrl-Z."""
    monkeypatch.setattr(training_group, "SILENT_SECONDS", 1)

    def report(connection: Connection) -> None:
        call(connection, "report_score", 1, 0.5)
        connection.send((DONE, None))

    lead(report, finish, report_score=lambda step, score: time.sleep(1.5))


def test_a_stopped_process_is_not_sent_to_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take what it is sent if it were only slow."""
    monkeypatch.setattr(training_group, "SILENT_SECONDS", 1)
    group = TrainingGroup("lstm", TWO, None)
    with training_group._start_here("127.0.0.1") as member:
        assert member.process
        os.kill(member.process.pid, signal.SIGSTOP)
        large: Any = bytes(10_000_000)
        with pytest.raises(MemberLost, match="has not answered") as lost:
            group._send(large, [member], 1, Path())
        assert lost.value.where == f"127.0.0.1, process {member.process.pid}"
    assert list_children() == []


def test_an_error_that_cannot_be_sent_is_replaced() -> None:
    class Local(Exception):
        pass

    assert str(make_sendable(Local("why"))) == "Local: why"
    error = UsageError("what", "where", "todo")
    assert make_sendable(error) is error
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301


def test_more_processes_than_stays_are_refused_before_any_is_started() -> None:
    train, valid = toy_sequences(1, 1, raw=False), toy_sequences(2, 2, raw=False)
    cls = MODELS.get("lstm")
    with pytest.raises(UsageError, match="1 training stays have rows to learn from"):
        TrainingGroup("lstm", TWO, None).fit(cls(cls.Params()), train, valid, Context(seed=1))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"pool": "cpu"}, "does not go with the pool cpu: use the runner process or dask"),
        ({"runner": "ray"}, "does not go with the runner ray"),
        ({"inputs": "memory"}, "whose processes read shards: use inputs=auto"),
        ({"processes_per_training": 0}, "greater than or equal to 1"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(choices: dict[str, Any], message: str) -> None:
    values = {"name": "x", "processes_per_training": 2, **choices}
    with pytest.raises(UsageError, match=message):
        validate_config(ComputeConfig, values, "compute")


def test_the_figures_of_a_group_belong_to_its_size_and_to_no_other_choice() -> None:
    one = ComputeConfig(name="one")
    assert describe_group(one, "lstm") == describe_group(TWO, "logistic_regression") == {}
    assert describe_group(TWO, "gradient_boosting") == {"processes": 2}
    on_dask = TWO.model_copy(update={"runner": "dask", "threads": 3})
    assert describe_group(on_dask, "lstm") == {"processes": 2}


def test_models_that_no_group_trains_are_trained_by_one_process_which_is_said() -> None:
    lines: list[str] = []
    assert choose_fit("naive_bayes", TWO, None, lines.append) is fit_here  # type: ignore[arg-type]
    assert lines == [
        "one process trains it: compute.processes_per_training=2 is for trees and recurrent "
        "networks"
    ]
    one = ComputeConfig(name="one")
    assert choose_fit("lstm", one, None, lines.append) is fit_here  # type: ignore[arg-type]
    assert len(lines) == 1
    fit = choose_fit("lstm", TWO, None, lines.append)  # type: ignore[arg-type]
    assert fit is not fit_here
    assert lines[1] == "2 processes train it together, each on its part of the shards"


def test_memory_is_estimated_for_each_process() -> None:
    sizes = {"rows": 10**8, "columns": 700, "filled": 700, "kinds": ["gradient_boosting"]}
    shards = {"name": "x", "inputs": "shards"}
    alone = training_memory.training_memory(**sizes, compute=ComputeConfig(**shards))
    here, there = (
        training_memory.training_memory(
            **sizes, compute=ComputeConfig(**shards, processes_per_training=4, runner=runner)
        )
        for runner in ("process", "dask")
    )
    beside = training_memory._member_memory(10**8, 700, 4, ["gradient_boosting"])
    assert there + beside < alone / 2  # each machine has one member, and one has the leader
    assert here == there + 4 * beside
    assert alone < here < alone * 1.3
    others = {**sizes, "kinds": ["logistic_regression"]}
    group_of_4 = ComputeConfig(**shards, processes_per_training=4)
    assert training_memory.training_memory(
        **others, compute=group_of_4
    ) == training_memory.training_memory(**others, compute=ComputeConfig(**shards))


def test_a_worker_has_room_for_the_largest_member_of_any_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_memory, "_read_sizes", lambda data: (10**7, 700, 600))
    on_dask = TWO.model_copy(update={"runner": "dask"})
    data: Any = None
    lstm, trees, both = (
        training_memory.estimate_member_memory(data, on_dask, kinds)
        for kinds in (["lstm"], ["gradient_boosting"], ["lstm", "svm", "gradient_boosting"])
    )
    assert 0 < lstm < trees == both
    assert training_memory.estimate_member_memory(data, on_dask, ["svm"]) == 0
    for compute in (TWO, ComputeConfig(name="one", runner="dask")):  # counted with the leader
        assert training_memory.estimate_member_memory(data, compute, ["lstm"]) == 0


def test_each_process_of_this_machine_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    lstm, trees = ModelConfig(kind="lstm"), ModelConfig(kind="gradient_boosting")
    config: ExperimentConfig = experiment("gpus", compute=TWO)
    with pytest.raises(UsageError, match="need a GPU each, and this machine has 1"):
        device.resolve_device(config, lstm)
    assert device.resolve_device(config, trees) == "cpu"
    on_dask = TWO.model_copy(update={"runner": "dask"})
    assert device.resolve_device(experiment("gpus", compute=on_dask), lstm) == "cuda"


def test_members_are_known_by_a_key_and_awaited_for_some_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = b"k" * 32

    def connect(port: int) -> None:
        socket.create_connection(("127.0.0.1", port)).close()  # a stranger
        connection = Client(("127.0.0.1", port), authkey=key)
        connection.send(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=connect, args=(listener.getsockname()[1],))
        thread.start()
        connections = dask_members._accept(listener, key, 1)
        thread.join()
        assert list(connections) == [1]
        connections[1].close()
        monkeypatch.setattr(dask_members, "_START_SECONDS", 0.1)
        with pytest.raises(FlowsheetError, match=r"0 of 1 processes .* have come in 0 s"):
            dask_members._accept(listener, key, 1)


def make_model(kind: str, params: dict[str, Any]) -> Model:
    cls = MODELS.get(kind)
    return cls(cls.Params(**params))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "raw", "params", "tolerance"),
    [
        ("gradient_boosting", True, {"rounds": 10}, 0.05),
        ("lstm", False, {"hidden": 6, "epochs": 3}, 1e-5),
    ],
)
def test_processes_train_the_model_of_one_process_or_fail_together(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    raw: bool,
    params: dict[str, Any],
    tolerance: float,
) -> None:
    parts: list[Sequences] = [toy_sequences(stays, stays, raw=raw) for stays in (300, 101)]
    group, reports = TrainingGroup(kind, TWO, None), []
    context = Context(
        seed=1, report_score=lambda step, score: reports.append(step), checkpoints=tmp_path
    )
    model = group.fit(make_model(kind, params), *parts, context)
    alone = make_model(kind, params)
    alone.fit(*parts, Context(seed=1))
    p = [fitted.predict_proba(parts[1]) for fitted in (model, alone)]
    np.testing.assert_allclose(*p, atol=tolerance)
    assert len(reports) > 1

    def kill(step: int, score: float) -> None:
        os.kill(max(list_children()), signal.SIGKILL)

    with pytest.raises(FlowsheetError, match=rf"of 2 that train {kind} together was killed"):
        group.fit(make_model(kind, params), *parts, Context(seed=1, report_score=kill))
    assert list_children() == []

    def stop(step: int, score: float) -> None:
        monkeypatch.setattr(training_group, "SILENT_SECONDS", 20)  # all have begun
        os.kill(max(list_children()), signal.SIGSTOP)

    with pytest.raises(MemberLost, match=rf"of 2 that train {kind} together has not answered"):
        group.fit(make_model(kind, params), *parts, Context(seed=1, report_score=stop))
    assert list_children() == []


def list_children() -> list[int]:
    """The members that this process has started and that still run."""
    children = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(
                (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
            )
            command = (folder / "cmdline").read_text(encoding="utf-8")
        except OSError:  # it has ended
            continue
        if parent == os.getpid() and "group_member" in command:
            children.append(int(folder.name))
    return children
