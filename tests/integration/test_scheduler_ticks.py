"""Ticks against the real database, with time as an argument: each due time is one row, once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from nomaflow.in_force import catalog
from nomaflow.store import database, schedules
from nomaflow_scheduler import fire, lateness
from nomaflow_scheduler.fire import Ticked

STEP = {"name": "a", "type": "sql_query", "connector": "default", "query": "SELECT 1"}
T0 = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


async def declare(db, bell, name="j", next_fire_at=T0, **fields):
    """A job whose clocks are all due next at `next_fire_at`; answers the first clock's id."""
    raw = {"name": name, "steps": [STEP], **fields}
    job = await catalog.create(db, bell, raw, by="test")
    for row in await schedules.of_job(db, job.id):
        await schedules.set_next(db, row.id, next_fire_at)
    return await db.fetchval("SELECT id FROM schedules WHERE job_id = $1 ORDER BY name", job.id)


async def end_all_runs(db):
    await db.execute(
        """UPDATE runs SET status = 'aborted', finished_at = now() WHERE status = 'queued'"""
    )


async def slots(db, clock):
    rows = await db.fetch(
        """SELECT due_at, outcome, reason, run_id, until, count FROM slots
           WHERE schedule_id = $1 ORDER BY due_at""",
        clock,
    )
    return [dict(row) for row in rows]


async def fired_at(db):
    rows = await db.fetch(
        "SELECT scheduled_for FROM runs WHERE status <> 'skipped' ORDER BY scheduled_for"
    )
    return [row["scheduled_for"] for row in rows]


async def next_fire(db, clock):
    return await db.fetchval("SELECT next_fire_at FROM schedules WHERE id = $1", clock)


async def test_two_schedulers_fire_an_every_second_cron_sixty_times(db, bell):
    clock = await declare(db, bell, schedule="* * * * * *", overlap="allow")
    done = Ticked()
    for second in range(60):
        at = T0 + second * SECOND
        for ticked in await asyncio.gather(*(fire.tick(db, bell, at=at) for _ in range(2))):
            done += ticked
    assert done == Ticked(fired=60)
    assert await fired_at(db) == [T0 + n * SECOND for n in range(60)]
    assert {row["outcome"] for row in await slots(db, clock)} == {"fired"}
    assert await next_fire(db, clock) == T0 + 60 * SECOND


async def test_many_clocks_due_at_once_each_fire_once_whoever_ticks(db, bell):
    for n in range(40):
        await declare(db, bell, f"j{n}", schedule="0 12 * * *")
    ticked = await asyncio.gather(*(fire.tick(db, bell, at=T0) for _ in range(3)))
    assert sum(one.fired for one in ticked) == 40
    assert await fired_at(db) == [T0] * 40


async def test_a_run_knows_its_slot_and_its_clock(db, bell):
    clock = await declare(
        db,
        bell,
        schedules=[{"name": "hourly", "cron": "0 * * * *", "params": {"syncType": "full"}}],
    )
    await fire.tick(db, bell, at=T0)
    run = await db.fetchrow("SELECT * FROM runs")
    assert (run["trigger"], run["triggered_by"], run["status"]) == ("cron", "cron", "queued")
    assert (run["schedule_name"], run["scheduled_for"]) == ("hourly", T0)
    assert run["params"] == {"syncType": "full"}  # S11
    assert await slots(db, clock) == [
        {
            "due_at": T0,
            "outcome": "fired",
            "reason": None,
            "run_id": run["id"],
            "until": None,
            "count": 1,
        }
    ]


async def test_nothing_fires_early(db, bell):
    await declare(db, bell, schedule="0 12 * * *")
    assert await fire.tick(db, bell, at=T0 - timedelta(milliseconds=1)) == Ticked()
    assert await fired_at(db) == []


async def test_overlap_is_a_skipped_run_with_its_reason(db, bell):
    clock = await declare(db, bell, schedule="* * * * *")
    await fire.tick(db, bell, at=T0)
    await fire.tick(db, bell, at=T0 + timedelta(minutes=1))
    runs = await db.fetch("SELECT * FROM runs ORDER BY scheduled_for")
    assert [run["status"] for run in runs] == ["queued", "skipped"]
    assert runs[1]["reason"] == "skipped: previous run still running"
    assert await db.fetchval("SELECT count(*) FROM step_runs WHERE run_id = $1", runs[1]["id"]) == 0
    outcome = [(s["outcome"], s["run_id"]) for s in await slots(db, clock)]
    assert outcome == [("fired", runs[0]["id"]), ("skipped", runs[1]["id"])]


async def test_a_short_outage_fires_every_due_time_late(db, bell):
    await declare(db, bell, schedule="* * * * * 0,20,40", overlap="allow")
    assert await fire.tick(db, bell, at=T0 + 60 * SECOND) == Ticked(fired=4)
    assert await fired_at(db) == [T0 + n * SECOND for n in (0, 20, 40, 60)]


async def test_a_long_outage_is_recorded_and_never_made_up_for(db, bell):
    clock = await declare(db, bell, schedule="0 * * * *")
    back = T0 + timedelta(hours=5, minutes=30)
    assert await fire.tick(db, bell, at=back) == Ticked(missed=6)
    assert await fired_at(db) == []
    rows = await slots(db, clock)
    assert [row["due_at"] for row in rows] == [T0 + timedelta(hours=n) for n in range(6)]
    assert {row["outcome"] for row in rows} == {"missed"}
    assert rows[0]["reason"].startswith("missed: no scheduler fired it within 60 s")
    assert await next_fire(db, clock) == T0 + timedelta(hours=6)
    assert await fire.tick(db, bell, at=back) == Ticked()


async def test_after_an_outage_the_newest_due_time_fires_if_it_is_fresh(db, bell):
    await declare(db, bell, schedule="0 * * * *")
    back = T0 + timedelta(hours=5, seconds=45)
    assert await fire.tick(db, bell, at=back) == Ticked(fired=1, missed=5)
    assert await fired_at(db) == [T0 + timedelta(hours=5)]


async def test_two_schedulers_that_come_back_together_record_each_missed_time_once(db, bell):
    for n in range(20):
        await declare(db, bell, f"j{n}", schedule="*/10 * * * *")
    back = T0 + timedelta(hours=2, seconds=5)
    ticked = await asyncio.gather(*(fire.tick(db, bell, at=back) for _ in range(3)))
    assert sum(one.missed for one in ticked) == 20 * 12
    assert sum(one.fired for one in ticked) == 20
    assert await db.fetchval("SELECT count(*) FROM slots") == 20 * 13


async def test_a_thousand_missed_times_are_rows_and_one_more_is_a_gap(db, bell):
    few = await declare(db, bell, "few", schedule="* * * * *")
    many = await declare(
        db, bell, "many", next_fire_at=T0 - timedelta(minutes=1), schedule="* * * * *"
    )
    back = T0 + timedelta(minutes=999, seconds=90)
    assert await fire.tick(db, bell, at=back) == Ticked(fired=2, missed=2001)
    rows = await slots(db, few)
    assert [row["count"] for row in rows] == [1] * 1001
    gap, fresh = await slots(db, many)
    assert (gap["due_at"], gap["until"], gap["count"]) == (
        T0 - timedelta(minutes=1),
        T0 + timedelta(minutes=999),
        1001,
    )
    assert (fresh["outcome"], fresh["due_at"]) == ("fired", T0 + timedelta(minutes=1000))


async def test_a_very_long_gap_is_one_row_however_many_looks_it_takes(db, bell):
    clock = await declare(db, bell, schedule="* * * * *", overlap="allow")
    minutes = lateness.PIECE * 3 + 10
    back = T0 + timedelta(minutes=minutes, seconds=30)
    ticked = await asyncio.gather(*(fire.tick(db, bell, at=back) for _ in range(2)))
    assert sum(one.missed for one in ticked) == minutes
    gap, fresh = await slots(db, clock)
    assert (gap["due_at"], gap["count"]) == (T0, minutes)
    assert gap["until"] == T0 + timedelta(minutes=minutes - 1)
    assert fresh["due_at"] == T0 + timedelta(minutes=minutes)
    # a second outage is a gap of its own, for the clock has fired in between
    again = back + timedelta(minutes=1500)
    await fire.tick(db, bell, at=again)
    assert [row["count"] for row in await slots(db, clock)] == [minutes, 1, 1499, 1]


async def test_an_interval_fires_on_start_and_ends_after_max_fires(db, bell):
    clock = await declare(
        db,
        bell,
        overlap="allow",
        schedules=[{"name": "beat", "every": "2s", "fire_on_start": True, "max_fires": 3}],
    )
    for second in range(12):
        await fire.tick(db, bell, at=T0 + second * SECOND)
    assert await fired_at(db) == [T0, T0 + 2 * SECOND, T0 + 4 * SECOND]  # S10
    assert await next_fire(db, clock) is None


async def test_the_first_fire_on_start_waits_for_a_scheduler_however_long(db, bell):
    await declare(
        db, bell, schedules=[{"name": "once", "every": "1d", "fire_on_start": True, "max_fires": 1}]
    )
    assert await fire.tick(db, bell, at=T0 + timedelta(hours=3)) == Ticked(fired=1)


async def test_daylight_saving_moves_a_skipped_time_and_doubles_none(db, bell):
    spring = datetime(2030, 3, 30, 1, 30, tzinfo=UTC)  # 02:30 in Paris, the day before the gap
    await declare(
        db,
        bell,
        next_fire_at=spring,
        schedule="30 2 * * *",
        timezone="Europe/Paris",
        overlap="allow",
    )
    for day in range(3):
        for minute in range(0, 181, 15):
            at = spring.replace(hour=0, minute=0) + timedelta(days=day, minutes=minute)
            await fire.tick(db, bell, at=at)
    assert await fired_at(db) == [
        spring,
        datetime(2030, 3, 31, 1, 0, tzinfo=UTC),  # 03:00, the first moment after the gap
        datetime(2030, 4, 1, 0, 30, tzinfo=UTC),
    ]


async def test_a_disabled_job_does_not_fire_and_its_clock_is_put_away(db, bell):
    clock = await declare(db, bell, schedule="0 12 * * *")
    await db.execute("UPDATE jobs SET switched_on = false")
    assert await fire.tick(db, bell, at=T0) == Ticked()
    assert await next_fire(db, clock) is None


async def test_a_definition_that_cannot_run_is_recorded_and_holds_up_nobody(db, bell):
    broken = await declare(db, bell, "broken", schedule="0 12 * * *")
    await declare(db, bell, "sound", schedule="0 12 * * *")
    await db.execute(
        """UPDATE jobs SET definition = '{"name": "broken"}', revision = 7 WHERE name = 'broken'"""
    )
    assert await fire.tick(db, bell, at=T0) == Ticked(fired=1, missed=1)
    (row,) = await slots(db, broken)
    assert row["outcome"] == "missed"
    assert row["reason"].startswith("missed: the run could not be made: ")
    assert await next_fire(db, broken) == T0 + timedelta(days=1)


async def test_a_clock_the_database_refuses_holds_up_nobody_and_is_tried_again(db, bell):
    await declare(db, bell, "refused", schedule="0 12 * * *")
    await declare(db, bell, "sound", schedule="0 12 * * *")
    await db.execute("""ALTER TABLE runs ADD CONSTRAINT fault CHECK (job_name <> 'refused')""")
    with pytest.raises(database.Database.Error):
        await fire.tick(db, bell, at=T0)
    assert await fired_at(db) == [T0]
    await db.execute("ALTER TABLE runs DROP CONSTRAINT fault")
    assert await fire.tick(db, bell, at=T0 + SECOND) == Ticked(fired=1)
    assert await fired_at(db) == [T0, T0]
