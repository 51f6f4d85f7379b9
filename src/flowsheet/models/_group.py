"""The processes that train one model together: sums and exchanges between them.

Every member of a group runs the same fit. It computes with a part of the stays, exchanges the sums
with the others, and comes to the same decisions and to the same model. Members talk over TCP: by
torch's process groups, and while trees grow by LightGBM's own connections.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from flowsheet.errors import MemberLost
from flowsheet.typing import AnyArray, Ints

TIMEOUT = timedelta(minutes=30)
"""How long a member waits for the others in one exchange."""
_ADDRESS_BYTES = 64


@dataclass(frozen=True)
class Group:
    """A group, as one of its members sees it."""

    rank: int
    """Which member this is; the first one, 0, reports and keeps the checkpoints."""
    size: int
    """Members."""
    processes: Any
    """Torch's process group for tensors on the CPU."""
    gpu_processes: Any = None
    """The same for tensors on GPUs."""
    host: str = "127.0.0.1"
    """Where the others reach this member."""
    timeout: timedelta = TIMEOUT

    @classmethod
    def join(
        cls,
        rank: int,
        size: int,
        store: Any,
        *,
        device: str = "cpu",
        host: str = "127.0.0.1",
        timeout: timedelta = TIMEOUT,
    ) -> Group:
        """Meet the other members.

        Args:
            rank: Which member this is.
            size: Members.
            store: Torch's store, where they leave their addresses.
            device: ``cpu`` or ``cuda``; each member has a GPU of its own.
            host: Where the others reach this member.
            timeout: How long it waits for the others.

        Raises:
            MemberLost: not all members came in time.
        """
        with _lost_members_are_reported():
            processes = dist.ProcessGroupGloo(_prefixed("cpu", store), rank, size, timeout)
            gpu_processes = None
            if device == "cuda":
                options = dist.ProcessGroupNCCL.Options()
                options._timeout = timeout
                gpu_store = _prefixed("gpu", store)
                gpu_processes = dist.ProcessGroupNCCL(gpu_store, rank, size, options)
        return cls(rank, size, processes, gpu_processes, host, timeout)

    @property
    def part(self) -> slice:
        """Which of any items, such as stays, are this member's: every ``size``-th one."""
        return slice(self.rank, None, self.size)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors on one device by their sums over all members; all get the same bits."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        processes = self.gpu_processes if flat.is_cuda else self.processes
        with _lost_members_are_reported():
            processes.allreduce([flat]).wait()
        sums = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.copy_(total.view_as(tensor))

    @staticmethod
    def lost(error: Exception) -> MemberLost:
        """The error for the user where a library's connection to another member is lost."""
        return member_lost(error)

    def gather(self, rows: AnyArray) -> AnyArray:
        """The rows (n, ...) of all members, those of the first member first."""
        counts = [int(count) for count in self._gather_tensor(torch.tensor([len(rows)]))]
        longest = np.zeros((max(counts), *rows.shape[1:]), rows.dtype)
        if not longest.size:
            return longest
        longest[: len(rows)] = rows
        parts = self._gather_tensor(torch.from_numpy(longest))
        own_rows = [part.numpy()[:count] for part, count in zip(parts, counts, strict=True)]
        return np.concatenate(own_rows)

    def gather_in_order(self, positions: Ints, rows: AnyArray) -> AnyArray:
        """The rows of all members by their positions (n,), no two of which are equal."""
        return self.gather(rows)[np.argsort(self.gather(positions))]

    def broadcast(self, content: bytes) -> bytes:
        """What the first member sends, whatever the others give."""
        sent = content if self.rank == 0 else b""
        return self.gather(np.frombuffer(sent, np.uint8)).tobytes()

    def _gather_tensor(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all members, which have the same shape."""
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        with _lost_members_are_reported():
            self.processes.allgather([parts], [tensor]).wait()
        return parts

    def connect_lightgbm(self) -> dict[str, Any]:
        """Parameters with which LightGBM's boosters of all members train as one."""
        with socket.socket() as reserved:
            reserved.bind((self.host, 0))  # it does not listen: the others would connect to it
            port = reserved.getsockname()[1]
            address = f"{self.host}:{port}".encode().ljust(_ADDRESS_BYTES)
            addresses = self.gather(np.frombuffer(address, np.uint8)[None])
        machines = [row.tobytes().decode().strip() for row in addresses]
        return {
            "tree_learner": "data",
            "pre_partition": True,
            "num_machines": self.size,
            "machines": ",".join(machines),
            "local_listen_port": port,
            "time_out": max(1, round(self.timeout.total_seconds() / 60)),
        }


@contextlib.contextmanager
def hosted_store(host: str) -> Iterator[int]:
    """A store for :meth:`Group.join` during the block, at this address alone; yields its port."""
    listener = socket.create_server((host, 0))
    port = int(listener.getsockname()[1])
    store = dist.TCPStore(  # type: ignore[attr-defined]
        host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )
    try:
        yield port
    finally:
        del store


def reach_store(host: str, port: int) -> Any:
    """The store that another process hosts."""
    return dist.TCPStore(host, port, timeout=TIMEOUT)  # type: ignore[attr-defined]


def _prefixed(prefix: str, store: Any) -> Any:
    return dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _lost_members_are_reported() -> Iterator[None]:
    """Torch reports a connection that is closed or silent as a ``RuntimeError``."""
    try:
        yield
    except RuntimeError as error:
        raise member_lost(error) from error


def member_lost(error: Exception) -> MemberLost:
    """The error for the user, from that of a library that has lost the connection."""
    return MemberLost(
        "a process of the training group does not answer any more",
        where=str(error).splitlines()[0] if str(error) else type(error).__name__,
        todo="start again: finished trials are kept",
    )
