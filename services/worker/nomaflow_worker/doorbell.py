"""arq as the worker's ear: its queue and its pub/sub channel wake the supervisor, and that is all.

No run ever lives inside an arq job, so none of arq's time limits, retries or expiries covers
one. When Redis goes, the ear is opened again with patience; runs go on meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import structlog
from arq.worker import Worker, func
from redis.exceptions import RedisError

from nomaflow.broker import bell, listen
from nomaflow.broker.connection import dump, load

if TYPE_CHECKING:
    from arq.connections import ArqRedis
    from arq.typing import WorkerCoroutine

    from nomaflow_worker.supervisor import Supervisor

log = structlog.get_logger(__name__)

_LONGEST_PAUSE = 5.0
_WELL_SECONDS = 10.0
"""An ear that stayed open so long was well: the next fall is a new one."""


async def answer_for_ever(redis: ArqRedis, supervisor: Supervisor) -> None:
    """Run the arq worker whose one function wakes the supervisor; open it again when it falls."""

    async def ring(_ctx: dict[Any, Any], _run_id: str) -> None:
        supervisor.wake()

    pause = 0.2
    while True:
        worker = Worker(
            functions=[
                func(cast("WorkerCoroutine", ring), name="ring", max_tries=1, keep_result=0)
            ],
            queue_name=bell.WORKER_QUEUE,
            redis_pool=redis,
            handle_signals=False,
            max_jobs=100,
            job_timeout=10,
            keep_result=0,
            max_tries=1,
            retry_jobs=False,
            poll_delay=0.5,
            log_results=False,
            allow_abort_jobs=False,
            job_serializer=dump,
            job_deserializer=load,
        )
        began = asyncio.get_running_loop().time()
        try:
            await worker.async_run()
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("the arq queue is away", error=type(error).__name__, retry_seconds=pause)
        finally:
            await _end(worker)
        if asyncio.get_running_loop().time() - began > _WELL_SECONDS:
            pause = 0.2
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


async def _end(worker: Worker) -> None:
    """See out the rings that arq has not answered yet; it leaves them behind."""
    for task in worker.tasks.values():
        task.cancel()
    if worker.tasks:
        await asyncio.wait(worker.tasks.values(), timeout=1)


async def listen_for_ever(redis: ArqRedis, supervisor: Supervisor) -> None:
    """Wake the supervisor at once when work or an abort is published."""
    asked: set[asyncio.Task[None]] = set()

    def heard(channel: str, _word: str) -> None:
        if channel == bell.WORK:
            supervisor.wake()
            return
        task = asyncio.create_task(supervisor.hear_abort())
        asked.add(task)
        task.add_done_callback(asked.discard)

    await listen.hear(redis, (bell.WORK, bell.ABORTS), heard, on_gap=supervisor.wake)
