"""Train one model in a group of processes: of this machine, or on workers of a Dask cluster.

A group is started for one fit. This process, the leader, is no member: it can end members that hang
in a library's call. When a member dies, fails or does not answer, the others are ended, and the fit
is an error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from flowsheet.config import ComputeConfig
from flowsheet.errors import FlowsheetError, MemberLost, UsageError
from flowsheet.lifecycle.experiment.group_member import (
    ALIVE,
    CALL,
    DONE,
    Fit,
    Seat,
    make_sendable,
)
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.runtime.processes import without_sigint
from flowsheet.models.base import Context, Model, count_processes
from flowsheet.tuning.trial import FitFunction, fit_here
from flowsheet.typing import Progress
from flowsheet.windows.sequences import Sequences

LOOPBACK = "127.0.0.1"
_CAUSE_SECONDS = 5.0
"""When a member has lost another one, how long the other's own error is waited for."""
SILENT_SECONDS = 600
"""When a member that says nothing counts as lost; alive, it says so every few seconds."""
_LISTEN_SECONDS = 5.0
_LESS_MEMORY = (
    "start again with more memory, a smaller batch_size, or workers of a cluster on other machines "
    "(compute.runner=dask): finished trials are kept"
)


def describe_group(compute: ComputeConfig, kind: str) -> dict[str, int]:
    """What of the group the figures of a model depend on; nothing where one process trains it."""
    processes = count_processes(compute, kind)
    return {"processes": processes} if processes > 1 else {}


def choose_fit(
    kind: str, compute: ComputeConfig, windows: Stage, progress: Progress
) -> FitFunction:
    """How a model is fitted: in this process, or by a group that reads its inputs from shards.

    Args:
        kind: The registered model.
        compute: As configured.
        windows: The stage that the inputs are read from.
        progress: Told how many processes train it, if that is configured.
    """
    size = compute.processes_per_training
    if count_processes(compute, kind) > 1:
        progress(f"{size} processes train it together, each on its part of the shards")
        return TrainingGroup(kind, compute, windows).fit
    if size > 1:
        progress(
            f"one process trains it: compute.processes_per_training={size} is for trees and "
            "recurrent networks"
        )
    return fit_here


@dataclass
class Member:
    """A process of the group, as the leader sees it."""

    host: str
    connection: Connection
    process: subprocess.Popen[bytes] | None = None
    """None: on another machine."""
    errors: IO[bytes] | None = None
    """What the process has written to standard error."""

    def describe_end(self) -> str:
        """How the process has ended."""
        if self.process is None or self.errors is None:
            return f"has ended on {self.host}; see the log of the Dask worker there"
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return "was killed, most likely because memory ran out"
        self.errors.seek(0)
        last_line = self.errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        return f"has ended with exit code {code}: {last_line or 'without a word'}"


@dataclass(frozen=True)
class TrainingGroup:
    """Fits models of one kind in groups of processes."""

    kind: str
    compute: ComputeConfig
    windows: Stage | None
    """The stage that the inputs are read from; None: they are in memory."""

    @property
    def size(self) -> int:
        """Members of a group."""
        return self.compute.processes_per_training

    def fit(self, model: Model, train: Sequences, valid: Sequences, context: Context) -> Model:
        """The model, fitted by a group.

        Args:
            model: Its parameters.
            train: Training stays.
            valid: Validation stays.
            context: The circumstances of the fit, for the first member; in this process.

        Raises:
            UsageError: there are fewer stays to learn from than members.
            FlowsheetError: a member was ended, or does not answer.
            Exception: the first error of a member.
        """
        stays = len(np.unique(train.row_stay[train.scored]))
        if stays < self.size:
            raise UsageError(
                f"{stays} training stays have rows to learn from, fewer than the processes that "
                "train together",
                where=f"compute.processes_per_training={self.size}",
                todo="use fewer processes, or more stays",
            )
        fit = self._describe(model, train, valid, context)
        from flowsheet.models._group import hosted_store

        with tempfile.TemporaryDirectory(prefix="flowsheet-group-") as folder:
            with self._start_members(context) as members, hosted_store(members[0].host) as store:
                self._send(fit, members, store, Path(folder))
                self._lead(members, context)
            return type(model).load(Path(folder))

    def _describe(self, model: Model, train: Sequences, valid: Sequences, context: Context) -> Fit:
        return Fit(
            kind=self.kind,
            params=model.params.model_dump(mode="json"),
            train=train,
            valid=valid,
            windows=self.windows,
            seed=context.seed,
            device=context.device,
            threads=context.threads,
            checkpoints=context.checkpoints,
            has_score=context.score is not None,
        )

    @contextlib.contextmanager
    def _start_members(self, context: Context) -> Iterator[list[Member]]:
        """The processes of the group during the block; none outlives it."""
        with contextlib.ExitStack() as members:
            if self.compute.runner == "dask":
                from flowsheet.lifecycle.experiment.dask_members import start_on_cluster

                first_host, others = members.enter_context(
                    start_on_cluster(self.size, context.progress)
                )
            else:
                first_host, others = LOOPBACK, []
            local = [
                members.enter_context(_start_here(first_host))
                for _ in range(self.size - len(others))
            ]
            yield [*local, *others]

    def _send(self, fit: Fit, members: list[Member], port: int, folder: Path) -> None:
        content = ForkingPickler.dumps(fit)
        is_local = self.compute.runner == "process"
        for rank, member in enumerate(members):
            seat = Seat(
                rank=rank,
                size=len(members),
                host=member.host,
                store_host=members[0].host,
                store_port=port,
                folder=folder,
                gpu=rank if is_local else None,
            )
            try:
                member.connection.send_bytes(content)
                member.connection.send(seat)
            except OSError as error:
                self._report_end(member, rank, error)

    def _lead(self, members: list[Member], context: Context) -> None:
        """Answer the first member's calls until the fit has ended in all members."""
        waiting = {member.connection: rank for rank, member in enumerate(members)}
        silence = _Silence(waiting)
        lost: MemberLost | None = None
        own_error: Exception | None = None
        while waiting:
            for connection in silence.listen():
                rank = waiting[connection]
                try:
                    message, value = connection.recv()
                    if message == CALL:
                        own_error = _answer(connection, context, *value) or own_error
                except (EOFError, OSError) as error:
                    if own_error:
                        raise own_error from None
                    self._report_end(members[rank], rank, error)
                if message in {ALIVE, CALL}:
                    continue
                del waiting[connection], silence.seconds[connection]
                if message == DONE:
                    continue
                if own_error or not isinstance(value, MemberLost):
                    raise own_error or value
                lost, deadline = value, time.monotonic() + _CAUSE_SECONDS
            if lost and time.monotonic() >= deadline:
                raise lost
            if silent := silence.find_silent():
                self._report_silence(members[waiting[silent]], waiting[silent])
        if lost:
            raise lost

    def _report_end(self, member: Member, rank: int, error: Exception) -> NoReturn:
        """Raise the error of a member that has ended without a word, or does not listen."""
        if isinstance(error, BlockingIOError):
            self._report_silence(member, rank)
        raise FlowsheetError(
            f"{self._name(rank)} {member.describe_end()}",
            where=f"compute.processes_per_training={self.size}",
            todo=_LESS_MEMORY,
        )

    def _report_silence(self, member: Member, rank: int) -> NoReturn:
        process = f", process {member.process.pid}" if member.process else ""
        raise MemberLost(
            f"{self._name(rank)} has not answered for {SILENT_SECONDS} s",
            where=f"{member.host}{process}",
            todo="check that this machine runs and is reached, and that nothing has stopped the "
            "process; then start again: finished trials are kept",
        )

    def _name(self, rank: int) -> str:
        return f"process {rank + 1} of {self.size} that train {self.kind} together"


class _Silence:
    """For how many seconds each member has said nothing, while this process has listened.

    Time in which this process was stopped, or busy with a call of a member, does not count.
    """

    def __init__(self, connections: Iterable[Connection]) -> None:
        self.seconds = dict.fromkeys(connections, 0.0)

    def listen(self) -> list[Connection]:
        """The connections of the members that say something within some seconds."""
        started = time.monotonic()
        ready = set(wait(list(self.seconds), _LISTEN_SECONDS))
        listened = min(time.monotonic() - started, _LISTEN_SECONDS)
        for connection in self.seconds:
            self.seconds[connection] += listened
        heard = [connection for connection in self.seconds if connection in ready]
        self.seconds |= dict.fromkeys(heard, 0.0)
        return heard

    def find_silent(self) -> Connection | None:
        """A member that counts as lost."""
        lost = (member for member, seconds in self.seconds.items() if seconds >= SILENT_SECONDS)
        return next(lost, None)


def _answer(
    connection: Connection, context: Context, name: str, arguments: tuple[Any, ...]
) -> Exception | None:
    """Call a function of the context for a member; returns the error that ends the fit."""
    try:
        value = getattr(context, name)(*arguments)
    except Exception as error:
        connection.send((None, make_sendable(error)))
        return error
    connection.send((value, None))
    return None


@contextlib.contextmanager
def _start_here(host: str) -> Iterator[Member]:
    """A member on this machine, which does not outlive the block."""
    own_end, other_end = Pipe()
    with tempfile.TemporaryFile() as errors:
        limit_messages(own_end)
        with other_end, without_sigint():
            descriptor = other_end.fileno()
            process = subprocess.Popen(
                member_command(str(descriptor), str(os.getpid())),
                env=member_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # where LightGBM tells that it listens
                stderr=errors,
                pass_fds=[descriptor],
            )
        try:
            yield Member(host, own_end, process, errors)
        finally:
            own_end.close()
            process.kill()
            process.wait()


def limit_messages(connection: Connection) -> None:
    """Let a message that has begun on a connection between processes end in time, or fail."""
    limit = struct.pack("ll", SILENT_SECONDS, 0)
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            end.setsockopt(socket.SOL_SOCKET, option, limit)


def member_command(*arguments: str) -> list[str]:
    """The command line of a member."""
    return [sys.executable, "-P", "-m", "flowsheet.lifecycle.experiment.group_member", *arguments]


def member_environment() -> dict[str, str]:
    """The environment of a member, which imports from where this process does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
