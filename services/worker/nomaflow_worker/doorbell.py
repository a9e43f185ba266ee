"""arq as the worker's ear: its queue and its pub/sub channel wake the supervisor, and that is all.

No run ever lives inside an arq job, so none of arq's time limits, retries or expiries covers
one. When Redis goes, the ear is opened again with patience; runs go on meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from arq.worker import Worker, func

from nomaflow.broker import bell, listen, runtime

if TYPE_CHECKING:
    from arq.connections import ArqRedis
    from arq.typing import WorkerCoroutine

    from nomaflow_worker.supervisor import Supervisor


async def answer_for_ever(redis: ArqRedis, supervisor: Supervisor) -> None:
    """Run the arq worker whose one function wakes the supervisor; open it again when it falls."""

    async def ring(_ctx: dict[Any, Any], _run_id: str) -> None:
        supervisor.wake()

    def worker() -> Worker:
        return Worker(
            functions=[
                func(cast("WorkerCoroutine", ring), name="ring", max_tries=1, keep_result=0)
            ],
            queue_name=bell.WORKER_QUEUE,
            redis_pool=redis,
            max_jobs=100,
            job_timeout=10,
            **runtime.SETTINGS,
        )

    await runtime.keep_running(worker)


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
