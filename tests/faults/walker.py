"""A scheduler whose time is an argument: it goes from one due time to the next until the end.

Its processes are forked from one that has everything imported, so that to be killed and begun anew
costs little: what is tried is the killing, not the starting of Python.
"""

import asyncio
import multiprocessing
import traceback
from datetime import datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

from nomaflow.broker import connection
from nomaflow.broker.bell import Bell
from nomaflow.store import database, due
from nomaflow_scheduler import fire

CONTEXT = multiprocessing.get_context("forkserver")
# Not this module: the server of forks has no test folder on its path.
CONTEXT.set_forkserver_preload(["pytest", fire.__name__, connection.__name__, database.__name__])


async def walk(database_url: str, redis_url: str, end: datetime) -> None:
    db = await database.connect(database_url, min_size=1, max_size=3, application="walker")
    redis = connection.connect(redis_url)
    async with Bell(redis) as bell:
        while (at := (await due.coming(db)).look_at) is not None and at < end:
            await fire.tick(db, bell, at=at)
    await redis.aclose()
    await db.close()


def run(database_url: str, redis_url: str, end: datetime, trouble: Path) -> None:
    """Walk; what goes wrong is written to the file `trouble`."""
    try:
        asyncio.run(walk(database_url, redis_url, end))
    except BaseException:
        with trouble.open("a") as told:
            traceback.print_exc(file=told)
        raise


def begin(database_url: str, redis_url: str, end: datetime, trouble: Path) -> BaseProcess:
    """Start one."""
    process = CONTEXT.Process(target=run, args=(database_url, redis_url, end, trouble), daemon=True)
    process.start()
    return process
