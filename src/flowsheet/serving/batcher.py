"""Requests that wait are taken together: the event loop reads and writes, one thread computes."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence

from flowsheet.serving.refusal import Refused
from flowsheet.serving.scorer import Outcome

_BYTES = 16_000_000
"""Bodies of together at least this size are a batch, however few they are."""

Job = tuple[bytes, "asyncio.Future[Outcome]"]


class Batcher:
    """Takes whatever waits, up to ``size`` requests, as soon as the thread is free; nobody waits for company."""

    def __init__(
        self,
        work: Callable[[Sequence[bytes]], Sequence[Outcome]],
        size: int,
        waiting: int,
        taken: Callable[[int], None] = lambda requests: None,
    ) -> None:
        """``taken`` is told how many requests each batch holds."""
        self._work, self._size, self._waiting, self._taken = work, size, waiting, taken
        self._jobs: deque[Job] = deque()
        self._ready = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Answer what waits, then end; give up after so many seconds."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join(seconds)

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._jobs)

    @property
    def free(self) -> bool:
        """Whether a request would be taken now."""
        return len(self._jobs) < self._waiting and self._thread.is_alive()

    async def submit(self, body: bytes) -> Outcome:
        """The outcome for a body.

        Raises:
            Refused: too many are waiting (503).
        """
        if len(self._jobs) >= self._waiting:
            raise Refused(503, "busy", f"{self._waiting} requests are waiting already; try again in a moment")
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        with self._ready:
            self._jobs.append((body, future))
            self._ready.notify()
        return await future

    def _run(self) -> None:
        while jobs := self._take():
            self._taken(len(jobs))
            outcomes = self._work([body for body, _ in jobs])
            futures = [future for _, future in jobs]
            futures[0].get_loop().call_soon_threadsafe(_deliver, futures, outcomes)

    def _take(self) -> list[Job]:
        """The next batch, without requests that were given up; empty when there is nothing left to do for ever."""
        with self._ready:
            jobs: list[Job] = []
            while not jobs:
                while not self._jobs and not self._closing:
                    self._ready.wait()
                if not self._jobs:
                    return []
                size = 0
                while self._jobs and len(jobs) < self._size and size < _BYTES:
                    body, future = self._jobs.popleft()
                    if not future.cancelled():
                        jobs.append((body, future))
                        size += len(body)
            return jobs


def _deliver(futures: Sequence[asyncio.Future[Outcome]], outcomes: Sequence[Outcome]) -> None:
    for future, outcome in zip(futures, outcomes, strict=True):
        if not future.done():
            future.set_result(outcome)
