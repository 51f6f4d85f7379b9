"""One process of a group that trains one model: it is sent a fit, takes part in it, and ends.

The process that wants the model, the leader, starts the members and is connected with each of them.
It sends a fit and a seat, answers the first member's calls (scores, progress), and hears how the
fit has ended. A member ends with the leader, for whatever reason that ends. Meanwhile it says every
few seconds that it is alive, also while it waits for other members.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any, NamedTuple

from flowsheet.errors import FlowsheetError, UsageError, first_line
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.runtime.processes import exit_with_parent
from flowsheet.models.base import MODELS, Context, Pruned
from flowsheet.state.store import shared_folder
from flowsheet.windows.sequences import Sequences
from flowsheet.windows.shards import ShardedInputs

KEY = "FLOWSHEET_GROUP_KEY"
"""Environment variable of a member on another machine: what the leader knows it by."""
ALIVE, CALL, DONE, FAILED = "alive", "call", "done", "failed"
"""What a member tells its leader."""
_BEAT_SECONDS = 2.0
"""How often it says that it is alive."""
GPUS = "CUDA_VISIBLE_DEVICES"
"""Environment variable of the GPUs that CUDA sees, in all threads of a process."""


@dataclass(frozen=True)
class Fit:
    """What all members compute together."""

    kind: str
    """A registered model."""
    params: dict[str, Any]
    train: Sequences
    valid: Sequences
    windows: Stage | None
    """The stage that the inputs are read from; None: they are in memory."""
    seed: int
    device: str
    threads: int
    checkpoints: Path | None
    """Of the first member."""
    has_score: bool
    """Whether the first member asks for the monitored score."""


class Seat(NamedTuple):
    """A member's place in its group."""

    rank: int
    size: int
    host: str
    """Address of this member."""
    store_host: str
    """Address of the store through which the members find each other."""
    store_port: int
    folder: Path
    """Where the first member saves the model."""
    gpu: int | None
    """The GPU of this member; None: the first one that it sees."""


def main() -> None:
    """Take part in the fit that the leader sends over the connection in the arguments."""
    connection = _connect(*sys.argv[1:])
    leader = Leader(connection)
    threading.Thread(target=leader.send_signs_of_life, daemon=True).start()
    try:
        fit, seat = connection.recv(), connection.recv()
        if seat.rank:
            threading.Thread(target=_exit_with_leader, args=(connection,), daemon=True).start()
        take_part(fit, seat, leader)
    except BaseException as error:
        leader.tell(FAILED, make_sendable(error))
    else:
        leader.tell(DONE)
    finally:
        os._exit(0)  # the libraries' threads, which may wait for other members, are not waited for


class Leader:
    """The leader, as a member sees it: two threads tell it something."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def tell(self, message: str, content: Any = None) -> None:
        """Send a message and what belongs to it."""
        with self._sending:
            self._connection.send((message, content))

    def call(self, name: str, *arguments: Any) -> Any:
        """The result of a function of the leader's context; raises its error."""
        self.tell(CALL, (name, arguments))
        value, error = self._connection.recv()
        if error is not None:
            raise error
        return value

    def send_signs_of_life(self) -> None:
        """Say that this process is alive as long as it is; end it when nobody listens."""
        try:
            while True:
                self.tell(ALIVE)
                time.sleep(_BEAT_SECONDS)
        finally:
            os._exit(1)


def take_part(fit: Fit, seat: Seat, leader: Leader) -> None:
    """Fit the model with the other members; the first one saves it."""
    if fit.device == "cuda" and seat.gpu is not None:
        os.environ[GPUS] = choose_gpu(os.environ.get(GPUS), seat.gpu)

    from flowsheet.models._group import Group, reach_store

    _check_shards(fit)
    if interface := _find_interface(seat.host):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
    store = reach_store(seat.store_host, seat.store_port)
    group = Group.join(seat.rank, seat.size, store, device=fit.device, host=seat.host)
    context = Context(fit.seed, device=fit.device, threads=fit.threads, group=group)
    if seat.rank == 0:
        context = _first_context(context, fit, leader)
    cls = MODELS.get(fit.kind)
    model = cls(cls.Params(**fit.params))
    model.fit(fit.train, fit.valid, context)
    if seat.rank == 0:
        model.save(seat.folder)


def _first_context(context: Context, fit: Fit, leader: Leader) -> Context:
    """The context of the first member, which reports to the leader."""
    return replace(
        context,
        score=partial(leader.call, "score") if fit.has_score else None,
        report_score=partial(leader.call, "report_score"),
        progress=partial(leader.call, "progress"),
        checkpoints=fit.checkpoints,
    )


def choose_gpu(visible: str | None, gpu: int) -> str:
    """The GPU at this position among those that the leader sees.

    >>> choose_gpu(None, 1), choose_gpu("2,5", 1)
    ('1', '5')
    """
    return visible.split(",")[gpu] if visible else str(gpu)


def make_sendable(error: BaseException) -> BaseException:
    """The error, or one that says the same, if it is none that another process knows."""
    if isinstance(error, FlowsheetError | Pruned):
        return error
    return RuntimeError(f"{type(error).__name__}: {first_line(error)}")


def _connect(address: str, port_or_parent: str, rank: str = "0") -> Connection:
    """A connection to the leader: inherited from it, or over the network.

    Args:
        address: The file descriptor, or the leader's host.
        port_or_parent: The leader's process, or its port.
        rank: Which member this is, over the network.
    """
    if address.isdigit():
        exit_with_parent(int(port_or_parent))
        return Connection(int(address))
    key = bytes.fromhex(os.environ.pop(KEY))
    connection = Client((address, int(port_or_parent)), authkey=key)
    connection.send(int(rank))
    return connection


def _exit_with_leader(connection: Connection) -> None:
    """End this process as soon as the connection to the leader ends; it sends nothing more."""
    try:
        connection.recv()
    finally:
        os._exit(1)


def _check_shards(fit: Fit) -> None:
    """Check that the shards of the windows are here; those in an object store are fetched.

    Raises:
        UsageError: they are not.
    """
    parts = [part.x for part in (fit.train, fit.valid) if isinstance(part.x, ShardedInputs)]
    folders = sorted({folder for x in parts for folder in x.folders})
    if fit.windows and not all(folder.is_dir() for folder in folders) and shared_folder():
        _ = fit.windows.folder  # fetches what is missing
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise UsageError(
            f"a process of the training group on {socket.gethostname()} does not see the shards "
            "of the windows",
            where=str(missing[0]),
            todo="set FLOWSHEET_HOME to the same folder on all machines: a shared one, or a local "
            "one beside an object store (FLOWSHEET_STORE)",
        )


def _find_interface(host: str) -> str | None:
    """The network interface with this address, as torch wants to be told it."""
    if ipaddress.ip_address(host).is_loopback:
        return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    try:
        import psutil  # type: ignore[import-untyped]  # of Dask
    except ImportError:
        return None
    addresses = psutil.net_if_addrs().items()
    return next((name for name, own in addresses if any(a.address == host for a in own)), None)


if __name__ == "__main__":
    main()
