"""Fires that are prepared before their instant hold nobody up, and heed what is done meanwhile."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from clockwork import DAY, MINUTE, SECOND, STEP, T0, declare, end_runs, fired, slots

from nomaflow import dispatch
from nomaflow.birth import Request
from nomaflow.clock.calendars import Blackout
from nomaflow.in_force import catalog, switches
from nomaflow.store import due
from nomaflow_scheduler import ahead, fire
from nomaflow_scheduler.fire import Ticked


class Instant:
    """An instant that comes when the test says so, after it is told that all is prepared."""

    def __init__(self):
        self.reached, self.near = asyncio.Event(), asyncio.Event()

    async def comes(self, _now):
        self.reached.set()
        await self.near.wait()

    async def is_here(self):
        """It is there as soon as it is near."""


@asynccontextmanager
async def prepared(db, bell):
    """Everything due at T0, written and waiting for it until the end of the block.

    Yields the task, whose result is what has fired at the instant.
    """
    looks = await due.looks(db, T0, 100)
    instant = Instant()
    task = asyncio.create_task(ahead.prepare(db, bell, looks, T0, instant))
    try:
        await instant.reached.wait()
        yield task
        instant.near.set()
        await task
    finally:
        task.cancel()


async def edit(db, bell):
    raw = {"name": "j", "description": "new", "schedule": "0 12 * * *", "steps": [STEP]}
    await catalog.update(db, bell, raw, by="ann")


async def pause(db, bell):
    await switches.pause_job(db, bell, "j", T0 + DAY, by="ann")


async def disable(db, bell):
    await catalog.enable(db, bell, "j", enabled=False, by="ann")


async def delete(db, bell):
    await catalog.delete(db, bell, "j", by="ann")


async def switch_off(db, bell):
    await switches.set_schedule(db, bell, switches.Switch("j", "default", on=False), by="ann")


async def start(db, bell):
    await dispatch.start(db, bell, Request(job="j", trigger="api", triggered_by="ann"))


@pytest.mark.parametrize(
    ("deed", "becomes"),
    [
        (edit, [("fired", None)]),
        (pause, [("skipped", "paused: the job is paused until 2030-01-02T12:00:00Z")]),
        (disable, []),
        (delete, []),
        (switch_off, []),
        (start, [("skipped", "skipped: previous run still running")]),
    ],
)
async def test_a_deed_does_not_wait_for_a_prepared_fire_and_is_heeded(db, bell, deed, becomes):
    clock = await declare(db, bell, schedule="0 12 * * *")
    other = await declare(db, bell, "other", schedule="0 12 * * *")
    async with prepared(db, bell) as firing:
        await deed(db, bell)  # would stand here for ever if it had to wait
        assert not firing.done()
    assert firing.result() == Ticked(fired=1)
    assert await slots(db, other) == [(timedelta(), "fired", None)]
    assert await slots(db, clock) == []
    await fire.tick(db, bell, at=T0)
    assert [one[1:] for one in await slots(db, clock)] == becomes
    assert await db.fetchval("SELECT count(*) FROM slots WHERE run_id IS NULL") == sum(
        "paused" in (why or "") for _, why in becomes
    )


async def test_an_edited_job_fires_as_it_is_now(db, bell):
    await declare(db, bell, schedule="0 12 * * *")
    async with prepared(db, bell):
        await edit(db, bell)
    await fire.tick(db, bell, at=T0)
    assert await db.fetchval("SELECT array_agg(job_revision) FROM runs") == [2]
    assert await db.fetchval("SELECT count(*) FROM step_runs") == 1
    assert await db.fetchval("SELECT count(*) FROM run_events") == 1


async def everything(db, _bell):
    await switches.pause_scheduler(db, paused=True, by="ann")


async def black_out(db, _bell):
    window = Blackout("move", T0 - MINUTE, T0 + MINUTE, ("*",))
    await switches.set_blackout(db, window, by="ann")


@pytest.mark.parametrize("deed", [everything, black_out])
async def test_what_closes_all_clocks_does_not_wait_either(db, bell, deed):
    for name in ("j", "other"):
        await declare(db, bell, name, schedule="0 12 * * *")
    async with prepared(db, bell) as firing:
        await deed(db, bell)
    assert firing.result() == Ticked()
    assert await fire.tick(db, bell, at=T0) == Ticked(skipped=2)


async def test_a_job_that_is_being_edited_at_the_instant_is_left_to_the_tick(db, bell):
    clock = await declare(db, bell, schedule="0 12 * * *")
    await declare(db, bell, "other", schedule="0 12 * * *")
    async with db.transaction() as editing:
        await editing.execute("SELECT 1 FROM jobs WHERE name = 'j' FOR NO KEY UPDATE")
        async with prepared(db, bell) as firing:
            pass
        assert firing.result() == Ticked(fired=1)
    assert await slots(db, clock) == []
    assert await fire.tick(db, bell, at=T0) == Ticked(fired=1)


async def test_runs_that_may_overlap_do_not_mind_a_start(db, bell):
    await declare(db, bell, schedule="0 12 * * *", overlap="allow")
    async with prepared(db, bell) as firing:
        await start(db, bell)
    assert firing.result() == Ticked(fired=1)


async def test_a_run_that_ends_meanwhile_changes_nothing(db, bell):
    await declare(db, bell, schedule="0 12 * * *", overlap="queue", queue_depth=2)
    await start(db, bell)
    async with prepared(db, bell) as firing:
        await end_runs(db)
    assert firing.result() == Ticked(fired=1)


async def test_two_schedulers_that_prepare_the_same_fire_it_once(db, bell):
    for n in range(20):
        await declare(db, bell, f"j{n}", schedule="0 12 * * *")
    looks, instant = await due.looks(db, T0, 100), Instant()
    instant.near.set()
    done = await asyncio.gather(*(ahead.prepare(db, bell, looks, T0, instant) for _ in range(3)))
    assert sum(one.fired for one in done) == 20
    assert await fired(db) == [timedelta()] * 20
    assert await fire.tick(db, bell, at=T0) == Ticked()


async def test_what_a_frozen_scheduler_has_prepared_keeps_only_itself_back(db, bell):
    await declare(db, bell, schedule="0 12 * * *")
    async with prepared(db, bell):
        free = await declare(db, bell, "free", schedule="0 12 * * *")
        ticking = asyncio.create_task(fire.tick(db, bell, at=T0 + SECOND))
        async with asyncio.timeout(10):
            while not await slots(db, free):
                await asyncio.sleep(0.01)
        assert not ticking.done()  # it waits for the rest, which is about to be written
    assert await ticking == Ticked(fired=1)
    assert await fired(db) == [timedelta()] * 2


@pytest.mark.parametrize("most", [0, 1])
async def test_a_fall_right_after_the_instant_leaves_a_clock_that_is_set_and_counted(
    db, bell, most
):
    every_day = {"name": "c", "cron": "0 12 * * *", "max_fires": most}
    clock = await declare(db, bell, schedules=[every_day])
    async with prepared(db, bell):
        pass
    as_it_was = "next_fire_at = $1, look_at = $1, last_fire_at = NULL, fire_count = 0"
    await db.execute(f"UPDATE schedules SET {as_it_was}", T0)
    assert await fire.tick(db, bell, at=T0) == Ticked()
    row = await db.fetchrow("SELECT next_fire_at, last_fire_at, fire_count FROM schedules")
    assert tuple(row) == (None if most else T0 + DAY, T0, 1)
    assert await slots(db, clock) == [(timedelta(), "fired", None)]
    assert await fired(db) == [timedelta()]


async def test_a_clock_that_has_fired_is_set_forward_at_once(db, bell):
    await declare(db, bell, schedule="0 12 * * *")
    async with prepared(db, bell):
        pass
    row = await db.fetchrow("SELECT next_fire_at, last_fire_at, fire_count FROM schedules")
    assert tuple(row) == (T0 + DAY, T0, 1)
