"""Clocks as the seeds describe them, hour by hour, and a job that is slower than its clock."""

from datetime import timedelta

from clockwork import HOUR, SECOND, STEP, T0, end_runs, fired, outcomes, set_due, slots
from structlog.testing import capture_logs

from nomaflow.in_force import catalog
from nomaflow_scheduler import fire
from nomaflow_scheduler.fire import Ticked

TICKER = {  # seed 003, to the letter
    "interval": "1h",
    "emitOnStart": False,
    "maxEmissions": 0,
    "payload": {"syncType": "full", "startTime": None},
}


async def declare(db, bell, **clock):
    raw = {"name": "sync", "steps": [STEP], "schedules": [{"name": "ticker", **TICKER, **clock}]}
    return await catalog.create(db, bell, raw, by="test")


async def test_the_ticker_fires_every_hour_without_end_and_not_at_the_start(db, bell):
    job = await declare(db, bell)
    now = await db.fetchval("SELECT now()")
    first = await db.fetchval("SELECT next_fire_at FROM schedules")
    assert timedelta(minutes=59) < first - now <= HOUR
    assert await fire.tick(db, bell, at=now) == Ticked()
    await set_due(db, T0, job.id)
    for hour in range(30):
        assert await fire.tick(db, bell, at=T0 + hour * HOUR) == Ticked(fired=1)
        assert await fire.tick(db, bell, at=T0 + hour * HOUR + HOUR - SECOND) == Ticked()
        await end_runs(db)
    assert await fired(db) == [hour * HOUR for hour in range(30)]
    params = await db.fetch("SELECT DISTINCT params FROM runs")
    assert [row["params"] for row in params] == [TICKER["payload"]]
    assert await db.fetchval("SELECT next_fire_at FROM schedules") == T0 + 30 * HOUR


async def test_with_fire_on_start_and_three_at_most_it_fires_three_times_the_first_at_once(
    db, bell
):
    await declare(db, bell, emitOnStart=True, maxEmissions=3)
    assert await fire.tick(db, bell) == Ticked(fired=1)  # nobody has set a time: it is now
    start = await db.fetchval("SELECT scheduled_for FROM runs")
    for hour in range(1, 12):
        await end_runs(db)
        await fire.tick(db, bell, at=start + hour * HOUR)
    assert [at + T0 - start for at in await fired(db)] == [hour * HOUR for hour in range(3)]
    row = await db.fetchrow("SELECT next_fire_at, fire_count FROM schedules")
    assert tuple(row) == (None, 3)


async def test_a_job_of_25_seconds_every_10_seconds_for_5_minutes_is_30_due_times_and_a_warning(
    db, bell
):
    raw = {"name": "slow", "steps": [STEP], "schedule": "* * * * * */10"}
    await set_due(db, T0, (await catalog.create(db, bell, raw, by="test")).id)
    with capture_logs() as said:
        for second in range(300):
            at = T0 + second * SECOND
            begun = await db.fetchval("SELECT scheduled_for FROM runs WHERE status = 'queued'")
            if begun is not None and begun + 25 * SECOND <= at:
                await end_runs(db, at=at)
            await fire.tick(db, bell, at=at)
    found = await slots(db)
    assert [at for at, _, _ in found] == [n * 10 * SECOND for n in range(30)]
    assert await outcomes(db) == {"fired": 10, "skipped": 20}
    assert await fired(db) == [n * 30 * SECOND for n in range(10)]
    assert {why for _, what, why in found if what == "skipped"} == {
        "skipped: previous run still running"
    }
    warnings = [one for one in said if one["log_level"] == "warning"]
    assert [one["event"] for one in warnings] == ["a schedule keeps skipping"]
    assert await db.fetchval("SELECT warning FROM schedules") is not None
