"""The worker's ear wakes it, and is closed at once when the worker is told to stop."""

import asyncio
from uuid import uuid4

import pytest

from nomaflow.broker import connection
from nomaflow.broker.bell import WORKER_QUEUE, Bell
from nomaflow_worker import doorbell


class Sleeper:
    def __init__(self):
        self.woken = asyncio.Event()

    def wake(self):
        self.woken.set()

    async def hear_abort(self):
        self.woken.set()


@pytest.fixture
async def redis(redis_url):
    opened = connection.connect(redis_url, queue=WORKER_QUEUE)
    yield opened
    await opened.aclose()


@pytest.mark.parametrize("ear", [doorbell.answer_for_ever, doorbell.listen_for_ever])
async def test_a_ring_wakes_and_a_cancellation_is_heard_whenever_it_comes(redis, ear):
    async with Bell(redis) as bell:
        for number in range(25):
            sleeper = Sleeper()
            task = asyncio.create_task(ear(redis, sleeper))
            for _ in range(20):
                bell.ring(uuid4())
            if number == 0:
                await asyncio.wait_for(sleeper.woken.wait(), 5)
            await asyncio.sleep(0.002 * number)
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=3)
            assert done, f"the cancellation number {number} was swallowed"
            assert task.cancelled()
