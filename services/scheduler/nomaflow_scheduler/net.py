"""arq's own clock as the net under ours: one cron tick a second, done by one of all schedulers.

When Redis goes, arq's worker falls and is started again with patience; our own loop goes on.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from arq.cron import cron
from arq.worker import Worker

from nomaflow.broker import runtime

if TYPE_CHECKING:
    from arq.connections import ArqRedis

    from nomaflow_scheduler.clock import Clock

QUEUE = "nomaflow:schedulers"
TICK_SECONDS = 30


async def tick(ctx: dict[Any, Any]) -> None:
    """Serve what is due; arq calls this in whichever scheduler takes the second's job."""
    clock: Clock = ctx["clock"]
    await clock.net()


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
    return Worker(
        cron_jobs=[every_second],
        queue_name=QUEUE,
        redis_pool=redis,
        ctx={"clock": clock},
        max_jobs=10,
        job_timeout=TICK_SECONDS,
        timezone=UTC,  # arq skips an hour of ticks at the end of summer time in any other zone
        **runtime.SETTINGS,
    )


async def run(redis: ArqRedis, clock: Clock) -> None:
    """Keep an arq worker running, for ever."""
    await runtime.keep_running(lambda: worker(redis, clock))
