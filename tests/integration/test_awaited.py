"""Due times that wait for other jobs: woken by their ends, and looked at for nothing else."""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from clockwork import HOUR, MINUTE, STEP, T0, declare, end_runs, fired, slots

from nomaflow import dispatch
from nomaflow.birth import Request
from nomaflow.broker import listen
from nomaflow.broker.bell import NEWS
from nomaflow.in_force import catalog
from nomaflow.store import due, waits
from nomaflow_scheduler import fire
from nomaflow_scheduler.awaited import Awaited
from nomaflow_scheduler.clock import Clock
from nomaflow_scheduler.fire import Ticked
from nomaflow_scheduler.lead import Lead, State

WAITS = [{"job": "x", "since": "today", "by": "13:00"}]


async def upstream(db, bell, *names):
    for name in names or ("x",):
        await catalog.create(db, bell, {"name": name, "steps": [STEP]}, by="test")


async def start(db, bell, name="x"):
    request = Request(job=name, trigger="api", triggered_by="api")
    return (await dispatch.start(db, bell, request)).run_id


async def waiting(db, bell, name="j", depends_on=WAITS):
    clock = await declare(db, bell, name, schedule="0 12 * * *", depends_on=depends_on)
    assert await fire.tick(db, bell, at=T0) == Ticked(waiting=1)
    return clock


async def is_woken(db):
    return await db.fetchval("SELECT count(*) FROM slots WHERE look_at <= now()")


class Explained:
    """A connection that says of each statement how many blocks it touched."""

    def __init__(self, connection):
        self.connection = connection
        self.blocks = []

    async def fetchrow(self, sql, *values):
        explain = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON)"
        (told,) = await self.connection.fetchval(f"{explain} {sql}", *values)
        self.blocks.append(told["Plan"]["Shared Hit Blocks"] + told["Plan"]["Shared Read Blocks"])
        return await self.connection.fetchrow(sql, *values)

    async def fetchval(self, sql, *values):
        return (await self.fetchrow(sql, *values))[0]


async def blocks(db, run_id):
    """What it costs to look who waits for a run that has ended: by its word, and by the net."""
    ended = await db.fetchval("SELECT finished_at FROM runs WHERE id = $1", run_id)
    async with db.acquire() as connection:
        explained = Explained(connection)
        assert await waits.wake_for(explained, [run_id]) == 0
        assert (await waits.wake_since(explained, ended)).count == 0
    return explained.blocks


@asynccontextmanager
async def awaiting(db, lead_state=State.ACTIVE):
    """A scheduler's part that wakes what waits, running; and its clock."""
    lead = Lead(None, enabled=True)
    lead.state = lead_state
    clock = Clock(db, None, lead)
    awaited = Awaited(db, clock, lead)
    task = asyncio.create_task(awaited.run())
    try:
        yield awaited, clock
    finally:
        task.cancel()


async def test_the_end_of_the_other_job_wakes_at_once_by_the_doorbell(db, bell):
    await upstream(db, bell)
    clock_id = await waiting(db, bell)
    assert await is_woken(db) == 0
    connected = asyncio.Event()
    async with awaiting(db) as (awaited, _):
        hearing = listen.hear(
            bell.redis, (NEWS,), lambda _, word: awaited.hear(word), on_gap=connected.set
        )
        listening = asyncio.create_task(hearing)
        await connected.wait()
        run_id = await start(db, bell)  # its birth is news as well
        async with asyncio.timeout(5):
            while not await is_woken(db):
                await asyncio.sleep(0.01)
        assert await fire.tick(db, bell) == Ticked(waiting=1)
        assert (await slots(db, clock_id))[0][2] == "dependency-still-running: x"
        await end_runs(db, at=T0)
        bell.news(run_id, 9, "succeeded")
        async with asyncio.timeout(5):
            while not await is_woken(db):
                await asyncio.sleep(0.01)
        listening.cancel()
    assert await fire.tick(db, bell, at=T0 + MINUTE) == Ticked(fired=1)
    assert await fired(db, "j") == [timedelta()]


async def test_a_lost_word_is_made_up_for_by_the_net(db, bell):
    await upstream(db, bell)
    await waiting(db, bell)
    async with awaiting(db) as (awaited, _):
        await awaited.look()
        await start(db, bell)
        await end_runs(db, at=None)
        await awaited.look()
    assert await is_woken(db) == 1


async def test_an_end_that_is_written_while_it_is_decided_is_not_missed(db, bell):
    await upstream(db, bell)
    clock = await declare(db, bell, schedule="0 12 * * *", depends_on=WAITS)
    await start(db, bell)
    async with db.transaction() as late:
        await late.execute(  # its clock was read before the decision, its commit comes after
            "UPDATE runs SET status = 'succeeded', finished_at = clock_timestamp()"
        )
        assert await fire.tick(db, bell, at=T0) == Ticked(waiting=1)
        assert (await waits.wake_since(db, None)).count == 0
    assert (await waits.wake_since(db, None)).count == 1
    assert (await slots(db, clock))[0][1] == "waiting"


async def test_what_did_not_end_wakes_nobody(db, bell):
    await upstream(db, bell, "x", "y")
    await waiting(db, bell)
    other = await start(db, bell, "y")
    await end_runs(db)
    assert await waits.wake_for(db, [other]) == 0
    assert (await waits.wake_since(db, None)).count == 0
    assert await due.looks(db, T0 + 59 * MINUTE, 10) == []
    assert await due.looks(db, T0 + HOUR, 10) != []  # its deadline


async def test_a_standby_leaves_it_to_the_active_one(db, bell):
    await upstream(db, bell)
    await waiting(db, bell)
    await start(db, bell)
    await end_runs(db)
    async with awaiting(db, State.STANDBY) as (awaited, _):
        await awaited.look()
    assert await is_woken(db) == 0


@pytest.mark.parametrize("word", ["", "[]", "null", "[1]", '{"run": 1}', "{"])
async def test_words_that_are_no_news_are_left_alone(db, word):
    async with awaiting(db) as (awaited, _):
        awaited.hear(word)
        for run in ("none", 1, None):
            awaited.hear(json.dumps([{"status": "failed", "run": run}]))


async def test_an_edited_dependency_is_looked_at_at_once(db, bell):
    await upstream(db, bell, "x", "y")
    await waiting(db, bell)
    raw = {"name": "j", "schedule": "0 12 * * *", "steps": [STEP]}
    await catalog.update(db, bell, raw, by="ann")
    assert await is_woken(db) == 1
    assert await fire.tick(db, bell, at=T0 + MINUTE) == Ticked(fired=1)


async def test_the_cost_does_not_follow_how_many_wait(db, bell):
    await upstream(db, bell, "x", "y")
    await waiting(db, bell)
    other = await start(db, bell, "y")
    await end_runs(db)
    taken = []
    for more in (9, 5_000):
        await db.execute(
            """INSERT INTO slots
                 (schedule_id, due_at, outcome, reason, look_at, deadline, waits_for)
               SELECT schedule_id, due_at - n * interval '1 day', outcome, reason, look_at,
                 deadline, '["x"]'
               FROM slots, generate_series(1, $1) n WHERE due_at = $2
               ON CONFLICT DO NOTHING""",
            more,
            T0,
        )
        await db.execute("VACUUM ANALYZE slots")
        taken.append(await blocks(db, other))
        assert await due.looks(db, T0 + 59 * MINUTE, 10) == []
    few, many = taken
    assert all(b <= a + 20 for a, b in zip(few, many, strict=True)), taken
