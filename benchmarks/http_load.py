"""A client process that keeps a server busy, and what the server's processes use meanwhile."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np


async def send_requests(
    port: int, path: str, bodies: list[bytes], clients: int, seconds: float
) -> dict:
    """Keep ``clients`` connections busy for so many seconds; what was measured."""
    start_line = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json"
    requests = [
        f"{start_line}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body for body in bodies
    ]
    latencies: list[float] = []
    statuses: Counter = Counter()
    start, start_cpu = time.perf_counter(), time.process_time()

    async def run_client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        turn = number
        while time.perf_counter() < start + seconds:
            sent_at = time.perf_counter()
            try:
                writer.write(requests[turn % len(requests)])
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(size)
                statuses[head[9:12].decode()] += 1
            except (OSError, asyncio.IncompleteReadError) as error:
                statuses[type(error).__name__] += 1
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            latencies.append(time.perf_counter() - sent_at)
            turn += clients
        writer.close()

    await asyncio.gather(*(run_client(number) for number in range(clients)))
    elapsed, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    milliseconds = np.array(latencies) * 1000
    percentiles = {
        f"p{q}_ms": round(float(np.percentile(milliseconds, q)), 1) for q in (50, 95, 99)
    }
    return {
        "requests": len(latencies),
        "rps": round(len(latencies) / elapsed, 1),
        "statuses": dict(statuses),
        "errors": sum(count for status, count in statuses.items() if status != "200"),
        **percentiles,
        "max_ms": round(float(milliseconds.max()), 1),
        "client_cpu_share": round(cpu / elapsed, 3),
    }


def _client_process(pipe, *arguments) -> None:
    pipe.send(asyncio.run(send_requests(*arguments)))


def send_from_process(*arguments, server_pid: int | None = None) -> dict:
    """:func:`send_requests` in its own process; with a pid, the server's memory after 10 s too."""
    receiver, sender = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_client_process, args=(sender, *arguments))
    process.start()
    memory = {}
    if server_pid and not receiver.poll(10):
        memory = {"rss_mb_at_10_s": rss_mb(server_pid)}
    measured = receiver.recv()
    process.join()
    return {**measured, **memory}


def process_tree(pid: int) -> list[int]:
    """The process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    descendants = [member for child in children for member in process_tree(int(child))]
    return [pid, *descendants]


def cpu_seconds(pid: int) -> float:
    ticks = 0
    for member in process_tree(pid):
        fields = Path(f"/proc/{member}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    kilobytes = 0
    for member in process_tree(pid):
        for line in Path(f"/proc/{member}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS"):
                kilobytes += int(line.split()[1])
    return round(kilobytes / 1024, 1)
