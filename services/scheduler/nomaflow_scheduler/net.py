"""arq's own clock as the net under ours: one cron tick a second, done by one of all schedulers.

When Redis goes, arq's worker falls and is started again with patience; our own loop goes on.
"""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import TYPE_CHECKING, Any

import structlog
from arq.cron import cron
from arq.worker import Worker
from redis.exceptions import RedisError

from nomaflow.broker.connection import dump, load

if TYPE_CHECKING:
    from arq.connections import ArqRedis

    from nomaflow_scheduler.clock import Clock

log = structlog.get_logger(__name__)

QUEUE = "nomaflow:schedulers"
TICK_SECONDS = 30
STEADY_SECONDS = 10.0
LONGEST_PAUSE = 5.0


async def tick(ctx: dict[Any, Any]) -> None:
    """Serve what is due; arq calls this in whichever scheduler takes the second's job."""
    clock: Clock = ctx["clock"]
    await clock.net()


class WorkerSettings:
    """What arq's worker of a scheduler is made with (`reliability`: no retries, no pickle)."""

    queue_name = QUEUE
    handle_signals = False
    max_jobs = 10
    max_tries = 1
    retry_jobs = False
    keep_result = 0
    job_timeout = TICK_SECONDS
    poll_delay = 0.5
    log_results = False
    allow_abort_jobs = False
    timezone = UTC  # arq skips an hour of ticks at the end of summer time in any other zone
    job_serializer = staticmethod(dump)
    job_deserializer = staticmethod(load)


def worker(redis: ArqRedis, clock: Clock) -> Worker:
    """Make the arq worker; call it inside the running loop, and anew after each fall."""
    every_second = cron(
        tick,
        name="tick",
        second=set(range(60)),
        microsecond=0,
        unique=True,
        max_tries=1,
        keep_result=0,
        timeout=TICK_SECONDS,
    )
    settings = {
        name: getattr(WorkerSettings, name) for name in vars(WorkerSettings) if name[0] != "_"
    }
    return Worker(cron_jobs=[every_second], redis_pool=redis, ctx={"clock": clock}, **settings)


async def run(redis: ArqRedis, clock: Clock) -> None:
    """Keep an arq worker running, for ever."""
    pause = 0.2
    now = asyncio.get_running_loop().time
    while True:
        began = now()
        running = worker(redis, clock)
        try:
            await running.async_run()
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("the arq queue is away", error=type(error).__name__, retry_seconds=pause)
        finally:
            for task in running.tasks.values():
                task.cancel()
        if now() - began > STEADY_SECONDS:
            pause = 0.2
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
