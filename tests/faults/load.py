"""Work that goes on while things break: runs started at a steady rate, each under its own key."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from house import AWAY, House


@dataclass
class Load:
    """What was accepted, and how long each request took; a key asked again finds its run."""

    accepted: dict[UUID, float] = field(default_factory=dict)
    """Each run, and when its request was made."""
    took: list[float] = field(default_factory=list)
    """Seconds of each request that was answered."""
    refused: int = 0


async def offer(
    house: House, jobs: Sequence[str], *, every: float, count: int, dice: random.Random
) -> Load:
    """Start `count` runs of these jobs, one each `every` seconds; none is given up."""
    enough = asyncio.Event()
    return await offer_until(house, jobs, every=every, stop=enough, dice=dice, count=count)


async def offer_until(
    house: House,
    jobs: Sequence[str],
    *,
    every: float,
    stop: asyncio.Event,
    dice: random.Random,
    count: int = 10**9,
) -> Load:
    """Start runs of these jobs, one each `every` seconds, until told to stop."""
    load = Load()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            if stop.is_set():
                break
            group.create_task(_one(house, load, dice.choice(jobs), f"key-{number}"))
            await asyncio.sleep(every)
    return load


async def _one(house: House, load: Load, job: str, key: str) -> None:
    while True:
        began, wall = time.monotonic(), time.time()
        try:
            run_id = await house.trigger(job, idempotency_key=key)
        except AWAY:
            load.refused += 1
            await asyncio.sleep(0.2)
            continue
        load.took.append(time.monotonic() - began)
        load.accepted[run_id] = wall
        return


@contextlib.asynccontextmanager
async def meanwhile(work) -> AsyncIterator[asyncio.Task[Load]]:
    """Go on with `work` while the block breaks things; both have ended after it."""
    task = asyncio.create_task(work)
    try:
        yield task
        await task
    finally:
        task.cancel()


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share lies; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0
