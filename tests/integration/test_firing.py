"""Due times that do not fire, each a row with its reason; and those that fire later."""

import asyncio
from datetime import UTC, datetime, timedelta

from clockwork import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    STEP,
    T0,
    declare,
    end_runs,
    fired,
    outcomes,
    set_due,
    slots,
    tick_through,
)

from nomaflow.in_force import catalog, clocks
from nomaflow.store import closures, due, schedules
from nomaflow.store.closures import BlackoutRow
from nomaflow_scheduler import ahead, batch, fire
from nomaflow_scheduler.fire import Ticked


async def next_fire(db, clock):
    return await db.fetchval("SELECT next_fire_at FROM schedules WHERE id = $1", clock)


async def pause(db, since, until, job="j"):
    await db.execute(
        "UPDATE jobs SET paused_from = $1, paused_until = $2 WHERE name = $3", since, until, job
    )


async def black_out(db, action="skip", since=T0, until=T0 + HOUR, **more):
    row = {"name": "move", "jobs": ["*"], "by": "test", **more}
    await closures.set_blackout(db, BlackoutRow(from_at=since, until=until, action=action, **row))


async def test_a_paused_job_records_its_due_times_and_never_makes_up_for_them(db, bell):
    clock = await declare(db, bell, schedule="0 * * * *", catch_up="all", overlap="allow")
    await pause(db, T0 - MINUTE, T0 + 2 * HOUR)
    await tick_through(db, bell, T0, T0 + 3 * HOUR, HOUR)
    assert await fired(db) == [2 * HOUR, 3 * HOUR]
    assert await slots(db, clock) == [
        (0 * HOUR, "skipped", "paused: the job is paused until 2030-01-01T14:00:00Z"),
        (1 * HOUR, "skipped", "paused: the job is paused until 2030-01-01T14:00:00Z"),
        (2 * HOUR, "fired", None),
        (3 * HOUR, "fired", None),
    ]
    assert await db.fetchval("SELECT count(*) FROM runs WHERE status = 'skipped'") == 0


async def test_a_pause_that_nobody_saw_is_no_reason_to_catch_up(db, bell):
    clock = await declare(db, bell, schedule="0 * * * *", catch_up="all", overlap="allow")
    await pause(db, T0, T0 + 2 * HOUR)
    done = await fire.tick(db, bell, at=T0 + 4 * HOUR + 2 * MINUTE)
    assert done == Ticked(caught_up=3, skipped=2)
    assert await fired(db) == [2 * HOUR, 3 * HOUR, 4 * HOUR]
    assert [outcome for _, outcome, _ in await slots(db, clock)] == [
        *["skipped"] * 2,
        *["caught_up"] * 3,
    ]


async def test_the_paused_scheduler_fires_nothing_and_forgets_nothing(db, bell):
    await declare(db, bell, "a", schedule="* * * * *", overlap="allow")
    await declare(db, bell, "b", schedule="* * * * *", catch_up="all", overlap="allow")
    await closures.pause_scheduler(db, True, "ann")
    assert await tick_through(db, bell, T0, T0 + 4 * MINUTE, MINUTE) == Ticked(skipped=10)
    await closures.pause_scheduler(db, False, "ann")
    assert await fire.tick(db, bell, at=T0 + 5 * MINUTE) == Ticked(fired=2)
    assert {why for _, kind, why in await slots(db) if kind == "skipped"} == {
        "paused: the whole scheduler was paused by ann"
    }


async def test_a_pause_waits_for_fires_that_are_being_written(db, bell):
    await declare(db, bell, schedule="* * * * *")
    looks = await due.looks(db, T0, 10)
    async with db.transaction() as slow:
        await slow.execute("LOCK TABLE slots IN SHARE MODE")  # the fire stands in its writing
        serving = asyncio.create_task(batch.serve(db, bell, looks, T0))
        gate = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND {} granted"
        while not await db.fetchval(gate.format("")):
            await asyncio.sleep(0.01)
        pausing = asyncio.create_task(closures.pause_scheduler(db, True, "ann"))
        while not await db.fetchval(gate.format("NOT")):
            await asyncio.sleep(0.01)
    await asyncio.gather(serving, pausing)
    assert await fired(db) == [timedelta()]


async def test_a_closed_calendar_skips_and_says_which_day(db, bell):
    holidays = {"weekdays": ["mon", "tue", "wed", "thu", "fri"], "exclude": ["2030-01-02"]}
    async with db.transaction() as c:
        await closures.replace_files(c, {"business": holidays}, [])
    clock = await declare(db, bell, schedule="0 12 * * *", calendar="business", overlap="allow")
    await tick_through(db, bell, T0, T0 + 6 * DAY, DAY)
    assert [one[:2] for one in await slots(db, clock)] == [
        (0 * DAY, "fired"),
        (1 * DAY, "skipped"),
        (2 * DAY, "fired"),
        (3 * DAY, "fired"),
        (4 * DAY, "skipped"),
        (5 * DAY, "skipped"),
        (6 * DAY, "fired"),
    ]
    reasons = [why for _, _, why in await slots(db, clock) if why]
    assert reasons[0] == "calendar: business is closed on 2030-01-02"
    assert reasons[1].startswith("calendar: business is closed on 2030-01-05")


async def test_a_calendar_is_read_in_the_zone_of_the_schedule(db, bell):
    async with db.transaction() as c:
        await closures.replace_files(c, {"no-wed": {"exclude": ["2030-01-02"]}}, [])
    late = T0.replace(hour=23, minute=30)  # 00:30 on the 2nd in Paris
    await declare(
        db, bell, due=late, schedule="30 0 * * *", timezone="Europe/Paris", calendar="no-wed"
    )
    assert await fire.tick(db, bell, at=late) == Ticked(skipped=1)


async def test_a_schedule_may_do_without_the_calendar_of_its_job(db, bell):
    async with db.transaction() as c:
        await closures.replace_files(c, {"never": {"exclude": ["2030-01-01"]}}, [])
    await declare(
        db,
        bell,
        calendar="never",
        schedule="0 12 * * *",
        schedules=[{"name": "free", "cron": "0 12 * * *", "calendar": ""}],
        overlap="allow",
    )
    await fire.tick(db, bell, at=T0)
    assert await db.fetchval("SELECT schedule_name FROM runs") == "free"


async def test_a_blackout_skips(db, bell):
    clock = await declare(db, bell, schedule="*/30 * * * *", overlap="allow")
    await black_out(db)
    await tick_through(db, bell, T0, T0 + 2 * HOUR, 30 * MINUTE)
    assert await slots(db, clock) == [
        (0 * MINUTE, "skipped", "blackout: move until 2030-01-01T13:00:00Z"),
        (30 * MINUTE, "skipped", "blackout: move until 2030-01-01T13:00:00Z"),
        (60 * MINUTE, "fired", None),
        (90 * MINUTE, "fired", None),
        (120 * MINUTE, "fired", None),
    ]


async def test_a_blackout_concerns_the_jobs_it_names_and_those_of_its_connectors(db, bell):
    step = {**STEP, "connector": "${kw:where}"}
    await declare(db, bell, "report-a", schedule="0 12 * * *")
    await declare(
        db, bell, "other", schedule="0 12 * * *", params={"where": "default"}, steps=[step]
    )
    await declare(db, bell, "third", schedule="0 12 * * *", params={"where": "wh"}, steps=[step])
    await black_out(db, jobs=["report-*"], connectors=["wh"])
    assert await fire.tick(db, bell, at=T0) == Ticked(fired=1, skipped=2)
    assert await db.fetchval("SELECT job_name FROM runs") == "other"


async def test_what_is_postponed_runs_once_at_the_end_of_the_window(db, bell):
    clock = await declare(db, bell, schedule="*/20 * * * *", overlap="allow")
    await black_out(db, "postpone", until=T0 + 50 * MINUTE)
    await tick_through(db, bell, T0, T0 + HOUR, 10 * MINUTE)
    assert await fired(db) == [40 * MINUTE, 60 * MINUTE]
    assert await slots(db, clock) == [
        (0 * MINUTE, "skipped", "blackout: postponed, and a later due time runs at its end"),
        (20 * MINUTE, "skipped", "blackout: postponed, and a later due time runs at its end"),
        (40 * MINUTE, "fired", None),
        (60 * MINUTE, "fired", None),
    ]


async def test_a_postponed_due_time_waits_on_when_the_next_window_follows(db, bell):
    clock = await declare(db, bell, schedule="0 12 * * *")
    await black_out(db, "postpone")
    await black_out(db, "postpone", T0 + 30 * MINUTE, T0 + 2 * HOUR, name="again")
    await tick_through(db, bell, T0, T0 + 110 * MINUTE, 10 * MINUTE)
    assert await slots(db, clock) == [
        (timedelta(), "postponed", "blackout: again until 2030-01-01T14:00:00Z")
    ]
    assert await fired(db) == []
    await fire.tick(db, bell, at=T0 + 2 * HOUR)
    assert await fired(db) == [timedelta()]


async def test_a_window_that_is_taken_away_lets_go_at_once(db, bell):
    await declare(db, bell, schedule="0 12 * * *")
    await black_out(db, "postpone")
    assert await fire.tick(db, bell, at=T0) == Ticked(waiting=1)
    assert await closures.delete_blackout(db, "move")
    assert await db.fetchval("UPDATE slots SET look_at = $1 WHERE look_at <= now() RETURNING 1", T0)
    assert await fire.tick(db, bell, at=T0 + MINUTE) == Ticked(fired=1)


async def test_what_waited_for_a_job_that_was_switched_off_is_skipped(db, bell):
    clock = await declare(db, bell, schedule="0 12 * * *")
    await black_out(db, "postpone")
    await fire.tick(db, bell, at=T0)
    await catalog.enable(db, bell, "j", enabled=False, by="test")
    assert await fire.tick(db, bell, at=T0 + HOUR) == Ticked(skipped=1)
    assert (await slots(db, clock))[0][2] == "skipped: the job was disabled meanwhile"


async def test_a_long_absence_in_a_window_leaves_one_due_time_for_its_end(db, bell):
    clock = await declare(db, bell, schedule="* * * * *", overlap="allow")
    await black_out(db, "postpone", until=T0 + 3 * HOUR)
    await fire.tick(db, bell, at=T0 + 2 * HOUR)
    assert await outcomes(db, clock) == {"skipped": 120, "postponed": 1}
    await fire.tick(db, bell, at=T0 + 3 * HOUR)
    assert await outcomes(db, clock) == {"skipped": 179, "fired": 2}
    assert await fired(db) == [179 * MINUTE, 180 * MINUTE]


async def test_a_preset_with_a_cron_is_a_clock_that_fires_when_the_job_is_off(db, bell):
    presets = [
        {
            "name": "sandbox",
            "schedule": "0 12 * * *",
            "params": {"target": "sandbox"},
            "steps": {"a": False},
        },
        {"name": "plain"},
    ]
    await declare(
        db,
        bell,
        params={"target": "real"},
        presets=presets,
        schedule="0 12 * * *",
        enabled=False,
        overlap="allow",
    )
    assert await fire.tick(db, bell, at=T0) == Ticked(fired=1)
    run = await db.fetchrow("SELECT * FROM runs")
    assert (run["schedule_name"], run["params"]) == ("sandbox", {"target": "sandbox"})
    assert run["overrides"]["preset"] == "sandbox"
    assert await db.fetchval("SELECT status FROM step_runs") == "skipped"


async def test_jitter_is_the_same_each_time_and_different_for_each_clock(db, bell):
    offsets = [clocks.offset(f"j{n}", "default", 300) for n in range(50)]
    assert offsets == [clocks.offset(f"j{n}", "default", 300) for n in range(50)]
    assert len(set(offsets)) > 45
    assert all(timedelta() <= one < timedelta(seconds=300) for one in offsets)
    clock = await declare(db, bell, "j1", schedule="0 12 * * *", jitter_seconds=300)
    early = T0 + offsets[1] - timedelta(milliseconds=1)
    assert await fire.tick(db, bell, at=early) == Ticked()
    assert await fire.tick(db, bell, at=T0 + offsets[1]) == Ticked(fired=1)
    assert await fired(db) == [timedelta()]  # its due time is the nominal one
    row = await db.fetchrow("SELECT next_fire_at, look_at FROM schedules WHERE id = $1", clock)
    assert row["look_at"] - row["next_fire_at"] == offsets[1]


async def test_a_job_slower_than_its_clock_is_warned_of_once(db, bell):
    clock = await declare(db, bell, schedule="* * * * * */10")
    warnings = []
    for second in range(0, 300, 10):
        if second % 30 == 0:
            await end_runs(db)  # the job takes 25 seconds
        await fire.tick(db, bell, at=T0 + second * SECOND)
        warnings.append(await db.fetchval("SELECT warning FROM schedules WHERE id = $1", clock))
    assert await outcomes(db, clock) == {"fired": 10, "skipped": 20}
    assert await db.fetchval("SELECT count(*) FROM runs") == 30
    told = [warning is not None for warning in warnings]
    assert told == sorted(told)  # once it is said, it stands
    assert told.index(True) == 2
    for second in (300, 310):
        await end_runs(db)
        await fire.tick(db, bell, at=T0 + second * SECOND)
    assert await db.fetchval("SELECT warning FROM schedules WHERE id = $1", clock) is None


async def test_skipped_due_times_do_not_use_up_max_fires(db, bell):
    clock = await declare(
        db, bell, schedules=[{"name": "beat", "every": "2s", "max_fires": 3}], overlap="skip"
    )
    await fire.tick(db, bell, at=T0)
    await fire.tick(db, bell, at=T0 + 2 * SECOND)  # the first one is still going
    await end_runs(db)
    await fire.tick(db, bell, at=T0 + 4 * SECOND)
    await end_runs(db)
    await tick_through(db, bell, T0 + 6 * SECOND, T0 + 20 * SECOND, 2 * SECOND)
    assert await fired(db) == [n * SECOND for n in (0, 4, 6)]
    assert await next_fire(db, clock) is None


async def test_a_clock_that_replaces_twice_in_one_tick_ends_with_one_run(db, bell):
    both = [{"name": name, "cron": "0 12 * * *"} for name in ("a", "b")]
    await declare(db, bell, overlap="replace", schedules=both)
    assert await fire.tick(db, bell, at=T0) == Ticked(fired=2)
    rows = await db.fetch("SELECT status, reason FROM runs ORDER BY id")
    assert [row["status"] for row in rows] == ["aborted", "queued"]
    assert "replaced by run" in rows[0]["reason"]


async def test_two_clocks_of_one_job_at_one_time_do_not_both_run(db, bell):
    both = [{"name": name, "cron": "0 12 * * *"} for name in ("a", "b")]
    await declare(db, bell, schedules=both)
    assert await fire.tick(db, bell, at=T0) == Ticked(fired=1, skipped=1)


async def test_a_change_records_what_was_due_and_fires_none_of_it(db, bell):
    raw = {"name": "j", "steps": [STEP], "schedule": "0 * * * *"}
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    job = await catalog.create(db, bell, raw, by="test")
    await set_due(db, now - 3 * HOUR, job.id)
    await catalog.update(db, bell, {**raw, "schedule": "30 * * * *", "catch_up": "all"}, by="test")
    (row,) = await schedules.of_job(db, job.id)
    assert row.next_fire_at > datetime.now(UTC)
    kept = await db.fetch("SELECT due_at, outcome, reason FROM slots ORDER BY due_at")
    assert [one["due_at"] for one in kept] == [now - n * HOUR for n in (3, 2, 1, 0)]
    assert {one["outcome"] for one in kept} == {"missed"}


async def test_ahead_prepares_and_commits_on_the_instant(db, bell):
    due = datetime.now(UTC) + timedelta(seconds=1)
    for n in range(30):
        await declare(db, bell, f"j{n}", due=due, schedule="* * * * *")
    await declare(db, bell, "paused", due=due, schedule="* * * * *")
    await pause(db, T0 - 9999 * DAY, T0, "paused")
    looks = await ahead.looks(db, due)
    assert len(looks) == 31
    firing_all = asyncio.create_task(ahead.fire(db, bell, looks, due, ahead.Pace()))
    while datetime.now(UTC) < due - timedelta(milliseconds=100):
        assert await db.fetchval("SELECT count(*) FROM runs") == 0  # nothing before its time
        await asyncio.sleep(0.05)
    assert await firing_all == Ticked(fired=30)
    queued = await db.fetch("SELECT queued_at, scheduled_for FROM runs")
    assert {row["scheduled_for"] for row in queued} == {due}
    assert all(row["queued_at"] >= due for row in queued)
    # what does not plainly fire is left to the tick
    assert await fire.tick(db, bell) == Ticked(skipped=1)


async def test_definitions_are_read_before_they_are_needed(db, bell):
    for n in range(5):
        await declare(db, bell, f"j{n}", schedule="0 12 * * *")
    assert await ahead.warm(db, T0 - SECOND) == 0
    assert await ahead.warm(db, T0) == 5
    await db.execute("UPDATE jobs SET definition = '{}'")  # whoever reads it now cannot fire
    assert await fire.tick(db, bell, at=T0) == Ticked(fired=5)


async def test_a_clock_of_an_unknown_zone_stands_still_and_says_so(db, bell):
    lost = await declare(db, bell, "lost", schedule="0 12 * * *")
    await declare(db, bell, "sound", schedule="0 12 * * *")
    await db.execute("UPDATE schedules SET timezone = 'Mars/Base' WHERE id = $1", lost)
    assert await fire.tick(db, bell, at=T0) == Ticked(fired=1, missed=1)
    assert await next_fire(db, lost) is None
    ((_, outcome, reason),) = await slots(db, lost)
    assert outcome == "missed"
    assert "unknown timezone `Mars/Base`" in reason
    warning = await db.fetchval("SELECT warning FROM schedules WHERE id = $1", lost)
    assert "unknown timezone" in warning
