"""arq as a runtime: one of its workers kept running, and started again with patience.

What arq does with its jobs means nothing to us (no retries, no results, no pickle), and when Redis
goes its worker falls; whoever keeps it has another way to the same work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog
from arq.worker import Worker
from redis.exceptions import RedisError

from nomaflow.broker.connection import dump, load

log = structlog.get_logger(__name__)

SETTINGS: Final[dict[str, Any]] = {
    "handle_signals": False,
    "max_tries": 1,
    "retry_jobs": False,
    "keep_result": 0,
    "poll_delay": 0.5,
    "log_results": False,
    "allow_abort_jobs": False,
    "job_serializer": dump,
    "job_deserializer": load,
}
"""How every arq worker of ours is made."""

SHORTEST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
STEADY_SECONDS = 10.0
"""A worker that ran so long was well: its next fall is a new one."""


async def keep_running(make: Callable[[], Worker]) -> None:
    """Run the worker that `make` builds inside this loop, anew after each fall, until cancelled."""
    pause = SHORTEST_PAUSE
    now = asyncio.get_running_loop().time
    while True:
        began = now()
        worker = make()
        try:
            await worker.async_run()
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("the arq queue is away", error=type(error).__name__, retry_seconds=pause)
        finally:
            await _see_out(worker)
        if now() - began > STEADY_SECONDS:
            pause = SHORTEST_PAUSE
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


async def _see_out(worker: Worker) -> None:
    """End the jobs that a fallen worker leaves behind."""
    for task in worker.tasks.values():
        task.cancel()
    if worker.tasks:
        await asyncio.wait(worker.tasks.values(), timeout=1)
