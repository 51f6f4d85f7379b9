"""Members of a training group on the workers of a Dask cluster.

The training that wants a group is a task of one worker, and occupies it. The other members are
processes beside the workers, not tasks: trainings that occupy all workers cannot wait for each
other's. A lease for each worker, taken in the order of their addresses, keeps a worker from having
members of two groups; a group whose workers have members waits until these have ended.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any

from flowsheet.errors import FlowsheetError, UsageError, first_line
from flowsheet.lifecycle.experiment.group_member import KEY
from flowsheet.lifecycle.experiment.training_group import (
    LOOPBACK,
    Member,
    limit_messages,
    member_command,
    member_environment,
)
from flowsheet.lifecycle.runtime.processes import without_sigint
from flowsheet.typing import Progress

_START_SECONDS = 120.0
"""In which the members have to connect with their leader."""
_MESSAGE_SECONDS = 60
"""In which a message that has begun has to end."""


@contextlib.contextmanager
def start_on_cluster(size: int, progress: Progress) -> Iterator[tuple[str, list[Member]]]:
    """The address of this worker, and a member on each of ``size - 1`` others.

    Args:
        size: Members of the group, of which one is started here.
        progress: Called with a line if other groups occupy the workers.

    Raises:
        UsageError: the cluster has fewer workers.
        FlowsheetError: a member cannot be started.
    """
    from distributed import get_client, get_worker

    client, own_address = get_client(), get_worker().address
    others = choose_workers(list(client.scheduler_info()["workers"]), own_address, size)
    own_host = find_host(own_address)
    with contextlib.ExitStack() as stack:
        for address in sorted([own_address, *others]):
            stack.enter_context(_leased(address, progress))
        listener = stack.enter_context(socket.create_server((own_host, 0)))
        key = secrets.token_bytes(32)
        ranks = {address: rank for rank, address in enumerate(others, start=1)}
        port = listener.getsockname()[1]
        try:
            client.sync(  # type: ignore[no-untyped-call]
                *(client._run, start_beside_worker, own_host, port, key, ranks),
                workers=others,
                callback_timeout=_START_SECONDS,
            )
        except TimeoutError:
            raise FlowsheetError(
                "a Dask worker has not started its process of the training group in time",
                where=f"one of {', '.join(others)}",
                todo="check that these workers run and are reached, and start again",
            ) from None
        except Exception as error:
            raise FlowsheetError(
                f"a process of the training group cannot be started: {first_line(error)}",
                where=", ".join(others),
                todo="install the same release of flowsheet on all workers",
            ) from error
        connections = _accept(listener, key, len(others))
        for connection in connections.values():
            stack.callback(connection.close)
        yield (
            own_host,
            [Member(find_host(address), connections[rank]) for address, rank in ranks.items()],
        )


def choose_workers(workers: list[str], own: str, size: int) -> list[str]:
    """The workers of the other members: those that follow this one, in the order of addresses.

    >>> choose_workers(["tcp://c:1", "tcp://a:1", "tcp://b:1"], own="tcp://b:1", size=3)
    ['tcp://c:1', 'tcp://a:1']

    Raises:
        UsageError: the cluster has fewer workers than members.
    """
    check_workers(len(workers), size)
    ordered = sorted(workers)
    start = ordered.index(own)
    return (ordered[start:] + ordered[:start])[1:size]


def check_workers(workers: int, size: int) -> None:
    """Check that each member of a group has a worker of its own.

    Raises:
        UsageError: the cluster has fewer workers than members.
    """
    if workers < size:
        raise UsageError(
            f"{size} processes are to train a model together, and the Dask cluster has "
            f"{workers} workers",
            where=f"compute.processes_per_training={size}",
            todo="start more workers (compute.workers, or those at FLOWSHEET_DASK_ADDRESS), or use "
            f"compute.processes_per_training={workers}",
        )


def find_host(address: str) -> str:
    """The host in a worker's address; of a worker in this process, the loopback address.

    >>> find_host("tls://10.0.0.7:4000"), find_host("inproc://10.0.0.7/12/3")
    ('10.0.0.7', '127.0.0.1')

    Raises:
        UsageError: it is an IPv6 address, which LightGBM does not take.
    """
    from distributed.comm.addressing import get_address_host

    host = LOOPBACK if address.startswith("inproc") else str(get_address_host(address))
    if ":" in host:
        raise UsageError(
            "processes that train a model together find each other by IPv4 addresses",
            where=f"the Dask worker at {address}",
            todo="start the workers with --host and an IPv4 address",
        )
    return host


def start_beside_worker(
    host: str, port: int, key: bytes, ranks: dict[str, int], dask_worker: Any
) -> None:
    """Start a member beside the Dask worker that runs this.

    Args:
        host: Where the leader listens.
        port: Where the leader listens.
        key: What the leader knows its members by.
        ranks: {worker: rank of its member}.
        dask_worker: The worker; Dask passes it to an argument of this name.
    """
    rank = ranks[dask_worker.address]
    environment = member_environment() | {KEY: key.hex()}
    with without_sigint():
        subprocess.Popen(
            member_command(host, str(port), str(rank)),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


@contextlib.contextmanager
def _leased(address: str, progress: Progress) -> Iterator[None]:
    """Hold the worker's lease, which ends with this process however that ends."""
    from distributed import Semaphore

    lease: Any = Semaphore(max_leases=1, name=f"flowsheet-group-{address}")  # type: ignore[no-untyped-call]
    if not lease.acquire(timeout=1):
        progress(f"waiting until the training group on {address} has ended")
        lease.acquire()
    try:
        yield
    finally:
        lease.release()


def _accept(listener: socket.socket, key: bytes, count: int) -> dict[int, Connection]:
    """The connections of that many members, by rank.

    Raises:
        FlowsheetError: not all of them come in time.
    """
    connections: dict[int, Connection] = {}
    deadline = time.monotonic() + _START_SECONDS
    while len(connections) < count:
        listener.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            accepted, _ = listener.accept()
        except TimeoutError:
            raise FlowsheetError(
                f"{len(connections)} of {count} processes of the training group have come in "
                f"{_START_SECONDS:.0f} s",
                where=f"the other workers of the cluster, to {listener.getsockname()[0]}",
                todo="check that the workers reach each other's ports, and read their logs",
            ) from None
        accepted.settimeout(None)
        limit = struct.pack("ll", _MESSAGE_SECONDS, 0)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        connection = Connection(accepted.detach())
        with contextlib.suppress(AuthenticationError, OSError, EOFError):  # a stranger
            deliver_challenge(connection, key)
            answer_challenge(connection, key)
            connections[connection.recv()] = connection
            limit_messages(connection)
    return connections
