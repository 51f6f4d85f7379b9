"""Requests that wait are taken together: the event loop reads and writes, one thread computes, and
they take turns.

Two threads of one interpreter hinder each other: while one computes, the other gets a moment now
and then, and reads bodies so slowly that some requests miss batch after batch. So the loop reads
all that has come, hands the oldest requests over, and stands still until they are scored; only when
that takes long does it go on beside them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from flowsheet.prediction.errors import Refused
from flowsheet.serving.scorer import Outcome

_BYTES = 16_000_000
"""Bodies of together at least this size are a batch, however few they are."""

_PATIENCE = 0.1
"""Seconds that the loop stands still for a batch: several times what a full one of usual requests takes."""

_STILL = 2
"""Rounds of the loop without a further request after which a batch that is not full begins."""

Job = tuple[bytes, "asyncio.Future[Outcome]"]


class Batcher:
    """Takes whatever has come, up to ``size`` requests, as soon as the thread is free; nobody waits
    for company.

    All but the computing belongs to the event loop of the requests.
    """

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
        self._due = self._busy = False
        self._handed: SimpleQueue[list[Job]] = SimpleQueue()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    async def close(self, seconds: float) -> None:
        """Answer what waits, then end; give up after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._jobs or self._busy:
                    await asyncio.sleep(0.01)
        self._handed.put([])

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
            raise Refused(
                503, "busy", f"{self._waiting} requests are waiting already; try again in a moment"
            )
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._jobs.append((body, future))
        self._look(future.get_loop())
        return await future

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take a turn once the loop has gone through what it has read."""
        if not self._due:
            self._due = True
            loop.call_soon(self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop, before: int = 0, still: int = 0) -> None:
        waiting = len(self._jobs)
        still = still + 1 if waiting == before else 0
        if waiting < self._size and still < _STILL:
            loop.call_soon(self._turn, loop, waiting, still)
            return
        self._due = False
        if self._busy or not (jobs := self._take()):
            return
        self._taken(len(jobs))
        self._busy = True
        self._done.clear()
        self._handed.put(jobs)
        self._done.wait(_PATIENCE)

    def _take(self) -> list[Job]:
        """The next batch, without requests that were given up; the oldest first."""
        jobs: list[Job] = []
        size = 0
        while self._jobs and len(jobs) < self._size and size < _BYTES:
            body, future = self._jobs.popleft()
            if not future.cancelled():
                jobs.append((body, future))
                size += len(body)
        return jobs

    def _run(self) -> None:
        while jobs := self._handed.get():
            outcomes = self._work([body for body, _ in jobs])
            loop = jobs[0][1].get_loop()
            loop.call_soon_threadsafe(self._deliver, loop, [future for _, future in jobs], outcomes)
            self._done.set()

    def _deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        futures: Sequence[asyncio.Future[Outcome]],
        outcomes: Sequence[Outcome],
    ) -> None:
        for future, outcome in zip(futures, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)
        self._busy = False
        if self._jobs:
            self._look(loop)
