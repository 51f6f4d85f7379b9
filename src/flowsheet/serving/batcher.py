"""Collects waiting requests into batches: the event loop does I/O, one thread scores, in turns.

Two threads of one interpreter slow each other down: while one scores, the other runs only now and
then, and reads bodies so slowly that some requests miss batch after batch. So the loop reads all
that has arrived, hands the oldest requests over, and blocks until they are scored; only if that
takes long does it continue in parallel.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence, Sized
from queue import SimpleQueue
from typing import Generic, TypeVar

from flowsheet.prediction.errors import RequestRejected
from flowsheet.serving.scorer import Reply

_MAX_BYTES = 16_000_000
"""Bodies of at least this size together make a batch, however few they are."""

MAX_BLOCK_SECONDS = 0.1
"""How long the loop blocks for a batch, at most: several times what a full one usually takes."""

_QUIET_ITERATIONS = 2
"""Iterations of the loop without a new request after which a batch that is not full starts."""

R = TypeVar("R", bound=Sized)
"""A request, as long as its body."""


class Batcher(Generic[R]):
    """Scores whatever waits, up to ``batch_size`` requests, as soon as the thread is free.

    Everything but the scoring runs on the event loop of the requests.
    """

    def __init__(
        self,
        score: Callable[[Sequence[R]], Sequence[Reply]],
        batch_size: int,
        queue_size: int,
        on_batch: Callable[[int], None] = lambda requests: None,
        max_block_seconds: float = MAX_BLOCK_SECONDS,
    ) -> None:
        """Set up a batcher, which :meth:`start` starts.

        Args:
            score: the replies to some requests, in their order; called on the scoring thread.
            batch_size: requests that are scored together, at most.
            queue_size: requests that may wait.
            on_batch: called with the number of requests of each batch.
            max_block_seconds: how long the loop blocks for a batch, at most.
        """
        self._score = score
        self._batch_size = batch_size
        self._queue_size = queue_size
        self._on_batch = on_batch
        self._max_block_seconds = max_block_seconds
        self._waiting: deque[tuple[R, asyncio.Future[Reply]]] = deque()
        self._turn_is_scheduled = False
        self._is_scoring = False
        self._batches: SimpleQueue[list[tuple[R, asyncio.Future[Reply]]]] = SimpleQueue()
        self._scored = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)

    def start(self) -> None:
        """Start the scoring thread."""
        self._thread.start()

    async def close(self, seconds: float) -> None:
        """Score what waits, then stop; give up after ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._waiting or self._is_scoring:
                    await asyncio.sleep(0.01)
        self._batches.put([])

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def is_ready(self) -> bool:
        """Whether a request would be accepted now."""
        return len(self._waiting) < self._queue_size and self._thread.is_alive()

    async def submit(self, request: R) -> Reply:
        """The reply to a request.

        Raises:
            RequestRejected: too many requests are waiting (503).
        """
        if len(self._waiting) >= self._queue_size:
            message = f"{self._queue_size} requests are waiting already; try again in a moment"
            raise RequestRejected(503, "busy", message)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        self._schedule_turn(future.get_loop())
        return await future

    def _schedule_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start a batch once the loop has processed everything that it has read."""
        if not self._turn_is_scheduled:
            self._turn_is_scheduled = True
            loop.call_soon(self._take_turn, loop)

    def _take_turn(
        self, loop: asyncio.AbstractEventLoop, waiting_before: int = 0, quiet: int = 0
    ) -> None:
        waiting = len(self._waiting)
        quiet = quiet + 1 if waiting == waiting_before else 0
        if waiting < self._batch_size and quiet < _QUIET_ITERATIONS:
            loop.call_soon(self._take_turn, loop, waiting, quiet)
            return
        self._turn_is_scheduled = False
        if self._is_scoring:
            return
        jobs = self._take_batch()
        if not jobs:
            return
        self._on_batch(len(jobs))
        self._is_scoring = True
        self._scored.clear()
        self._batches.put(jobs)
        self._scored.wait(self._max_block_seconds)

    def _take_batch(self) -> list[tuple[R, asyncio.Future[Reply]]]:
        """The oldest waiting requests, without those that were cancelled."""
        jobs: list[tuple[R, asyncio.Future[Reply]]] = []
        size = 0
        while self._waiting and len(jobs) < self._batch_size and size < _MAX_BYTES:
            request, future = self._waiting.popleft()
            if not future.cancelled():
                jobs.append((request, future))
                size += len(request)
        return jobs

    def _run(self) -> None:
        while jobs := self._batches.get():
            replies = self._score([request for request, _ in jobs])
            futures = [future for _, future in jobs]
            loop = futures[0].get_loop()
            loop.call_soon_threadsafe(self._set_results, loop, futures, replies)
            self._scored.set()

    def _set_results(
        self,
        loop: asyncio.AbstractEventLoop,
        futures: Sequence[asyncio.Future[Reply]],
        replies: Sequence[Reply],
    ) -> None:
        for future, reply in zip(futures, replies, strict=True):
            if not future.done():
                future.set_result(reply)
        self._is_scoring = False
        if self._waiting:
            self._schedule_turn(loop)
