from __future__ import annotations

import asyncio
import threading
import time

from flowsheet.prediction.errors import RequestRejected
from flowsheet.serving.batcher import Batcher


def echo(bodies):
    return [RequestRejected(400, "echo", body.decode()) for body in bodies]


def test_waiting_requests_are_scored_together_and_finished_before_the_batcher_closes():
    batch_sizes = []

    def score(bodies):
        time.sleep(0.05)
        return echo(bodies)

    async def submit_twenty():
        batcher = Batcher(score, batch_size=8, queue_size=100, on_batch=batch_sizes.append)
        tasks = [asyncio.create_task(batcher.submit(str(i).encode())) for i in range(20)]
        await asyncio.sleep(0)
        batcher.start()
        await batcher.close(5)
        return [(await task).message for task in tasks]

    assert asyncio.run(submit_twenty()) == [str(i) for i in range(20)]
    assert batch_sizes == [8, 8, 4]


def test_a_batch_waits_for_requests_that_are_arriving():
    batch_sizes = []

    async def submit_five():
        batcher = Batcher(echo, batch_size=8, queue_size=100, on_batch=batch_sizes.append)
        batcher.start()
        tasks = []
        for _ in range(5):
            tasks.append(asyncio.create_task(batcher.submit(b"")))
            await asyncio.sleep(0)  # one iteration of the loop
        await asyncio.gather(*tasks)
        await batcher.close(5)

    asyncio.run(submit_five())
    assert batch_sizes == [5]


def test_the_loop_continues_while_a_long_batch_is_scored():
    may_finish = threading.Event()

    def score(bodies):
        may_finish.wait(20)
        return echo(bodies)

    async def submit_two():
        batcher = Batcher(score, batch_size=8, queue_size=100)
        batcher.start()
        first = asyncio.create_task(batcher.submit(b""))
        for _ in range(9):
            await asyncio.sleep(0.01)
        assert not first.done()
        may_finish.set()  # only a loop that still runs gets here
        replies = await asyncio.gather(first, batcher.submit(b""))
        await batcher.close(5)
        return replies

    assert [reply.kind for reply in asyncio.run(submit_two())] == ["echo", "echo"]
