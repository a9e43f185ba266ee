"""After an absence: what fires all the same, in which order, and what is only recorded."""

import asyncio
from datetime import timedelta

import pytest
from clockwork import DAY, HOUR, MINUTE, SECOND, T0, declare, end_runs, fired, outcomes, slots

from nomaflow.store import closures
from nomaflow_scheduler import fire
from nomaflow_scheduler.fire import Ticked

# A minutely job; each policy's counts of caught up and missed, for three lengths of absence. What
# is up to a minute late is one of the newest; without catching up it fires, late.
AWAY = [HOUR + 30 * SECOND, 25 * HOUR + 30 * SECOND, 30 * DAY + 30 * SECOND]
POLICIES = [
    ({}, 0),
    ({"catch_up": "last"}, 1),
    ({"catch_up": "all"}, 10),
    ({"catch_up": "all", "catch_up_limit": 200}, 200),
    ({"catch_up": "all", "catch_up_limit": 1000, "catch_up_window_minutes": 20}, 20),
    ({"catch_up": "last", "catch_up_window_minutes": 0.5}, 1),
]


@pytest.mark.parametrize("away", AWAY, ids=["1h", "25h", "30d"])
async def test_counts_are_exact_whatever_the_policy(db, bell, away):
    clocks = {}
    for n, (fields, _) in enumerate(POLICIES):
        clocks[n] = await declare(db, bell, f"j{n}", schedule="* * * * *", **fields)
    done = await fire.tick(db, bell, at=T0 + away)
    total = int(away / MINUTE) + 1
    for n, (_, most) in enumerate(POLICIES):
        caught = min(most, total)
        found = await outcomes(db, clocks[n])
        late = 0 if caught else 1  # none: what is merely late fires, and nothing besides
        expected = {"caught_up": caught, "missed": total - caught - late, "fired": late}
        assert found == {k: v for k, v in expected.items() if v}, POLICIES[n]
        newest = range(total - max(caught, 1), total)
        assert await fired(db, f"j{n}") == [MINUTE * k for k in newest]
    assert done.caught_up == sum(min(most, total) for _, most in POLICIES)
    rows = await db.fetchval("SELECT count(*) FROM slots WHERE outcome = 'missed'")
    assert rows <= len(POLICIES) * 1000  # a long absence is few rows
    assert await fire.tick(db, bell, at=T0 + away) == Ticked()


async def test_what_is_made_up_for_runs_one_after_the_other(db, bell):
    await declare(db, bell, schedule="0 * * * *", catch_up="all", catch_up_limit=3)
    await fire.tick(db, bell, at=T0 + 5 * HOUR + 30 * MINUTE)
    rows = await db.fetch(
        "SELECT serial, scheduled_for, queued_at FROM runs ORDER BY queued_at, id"
    )
    assert [row["scheduled_for"] - T0 for row in rows] == [3 * HOUR, 4 * HOUR, 5 * HOUR]
    assert all(row["serial"] for row in rows)
    assert rows[0]["queued_at"] < rows[1]["queued_at"] < rows[2]["queued_at"]


async def test_jobs_that_allow_overlap_make_up_at_once(db, bell):
    await declare(db, bell, schedule="0 * * * *", catch_up="all", overlap="allow")
    await fire.tick(db, bell, at=T0 + 5 * HOUR + 30 * MINUTE)
    assert await db.fetchval("SELECT bool_or(serial) FROM runs") is False


async def test_what_is_made_up_for_waits_for_the_run_in_flight(db, bell):
    await declare(db, bell, schedule="0 * * * *", catch_up="last")
    await fire.tick(db, bell, at=T0)
    await db.execute(
        """UPDATE runs SET status = 'running', started_at = now(), lease_owner = 'w',
             lease_expires_at = now() + interval '1 day'"""
    )
    assert await fire.tick(db, bell, at=T0 + 5 * HOUR + 30 * MINUTE) == Ticked(
        caught_up=1, missed=4
    )
    rows = await db.fetch("SELECT status, serial FROM runs ORDER BY queued_at")
    assert [tuple(row) for row in rows] == [("running", True), ("queued", True)]


async def test_max_fires_bounds_what_is_made_up_for(db, bell):
    clock = await declare(
        db,
        bell,
        overlap="allow",
        schedules=[{"name": "b", "every": "1h", "max_fires": 4, "catch_up": "all"}],
    )
    await fire.tick(db, bell, at=T0)
    await fire.tick(db, bell, at=T0 + 10 * HOUR)
    assert await outcomes(db, clock) == {"fired": 1, "caught_up": 3, "missed": 7}
    assert await db.fetchval("SELECT next_fire_at FROM schedules WHERE id = $1", clock) is None


async def test_an_absence_of_a_month_of_seconds_is_few_rows(db, bell):
    clock = await declare(db, bell, schedule="* * * * * *", catch_up="all", overlap="allow")
    # a third of a day is enough to need many pieces
    away = 8 * HOUR
    ticked = await asyncio.gather(*(fire.tick(db, bell, at=T0 + away) for _ in range(2)))
    assert sum(one.missed for one in ticked) == 8 * 3600 + 1 - 10
    found = await outcomes(db, clock)
    assert found == {"caught_up": 10, "missed": 8 * 3600 + 1 - 10}
    assert await db.fetchval("SELECT count(*) FROM slots WHERE outcome = 'missed'") == 1


async def test_closed_due_times_are_not_made_up_for(db, bell):
    async with db.transaction() as c:
        await closures.replace_files(c, {"tue": {"weekdays": ["tue"]}}, [])
    clock = await declare(
        db, bell, schedule="0 12 * * *", calendar="tue", catch_up="last", overlap="allow"
    )
    await fire.tick(db, bell, at=T0 + 5 * DAY + HOUR)
    assert await fired(db) == [timedelta()]  # the newest one on an open day
    assert [one[1:] for one in await slots(db, clock)] == [
        ("caught_up", None),
        *[("skipped", "calendar: tue is closed")] * 5,
    ]


async def test_killed_in_the_middle_nothing_is_lost_or_done_twice(db, bell):
    for n in range(30):
        await declare(db, bell, f"j{n}", schedule="* * * * *", catch_up="all", overlap="allow")
    away = T0 + 3 * HOUR + 30 * SECOND
    for _ in range(6):
        victim = asyncio.create_task(fire.tick(db, bell, at=away))
        await asyncio.sleep(0.05)
        victim.cancel()
        await asyncio.gather(victim, return_exceptions=True)
    await fire.tick(db, bell, at=away)
    assert await outcomes(db) == {"missed": 30 * 171, "caught_up": 30 * 10}
    assert len(await fired(db)) == 30 * 10


async def test_intervals_keep_their_grid_over_an_absence(db, bell):
    await declare(
        db, bell, overlap="allow", schedules=[{"name": "b", "every": "90s", "catch_up": "last"}]
    )
    await fire.tick(db, bell, at=T0 + HOUR)
    await end_runs(db)
    assert await db.fetchval("SELECT next_fire_at FROM schedules") == T0 + 3690 * SECOND
    assert await fired(db) == [3600 * SECOND]  # on the instant, and the newest all the same
