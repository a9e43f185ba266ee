"""The look of every second, which finds what no hint told, leaves newcomers alone."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from nomaflow.store import database
from nomaflow_api.feeds import Feeds, Ring


@pytest.fixture
async def db(database_url):
    opened = await database.connect(database_url)
    yield opened
    await opened.close()


async def test_a_run_that_comes_into_view_during_a_look_is_not_taken_for_deleted(db, database_url):
    feeds = Feeds(db)
    gone, new = (Ring(uuid4(), 0, over=False) for _ in range(2))
    feeds._rings[gone.run_id] = gone
    holder = await asyncpg.connect(database_url)
    async with holder.transaction():
        await holder.execute("LOCK TABLE nomaflow.runs IN ACCESS EXCLUSIVE MODE")
        look = asyncio.create_task(feeds.look())
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::regclass"
        while not await holder.fetchval(waiting, "nomaflow.runs"):
            await asyncio.sleep(0.01)
        feeds._rings[new.run_id] = new
    await look
    await holder.close()
    assert gone.over
    assert not new.over
