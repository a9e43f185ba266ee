"""What is forecast is what happens: a simulated week of closed times, against real ticks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import takewhile

from nomaflow.clock import forecast
from nomaflow.in_force import catalog, clocks, horizon
from nomaflow.store import closures, due, job_pages, schedules
from nomaflow.store.closures import BlackoutRow
from nomaflow_scheduler import fire

T0 = datetime(2030, 3, 28, 12, 0, tzinfo=UTC)  # a Thursday; Berlin's clock goes forward on the 31st
END = T0 + timedelta(days=7)
STEP = {"name": "a", "type": "sql_query", "connector": "default", "query": "SELECT 1"}
OTHER = {"name": "a", "type": "sql_query", "connector": "ops-db", "query": "SELECT 1"}
HOUR = timedelta(hours=1)

JOBS = [
    {"name": "open", "schedule": "0 */3 * * *"},
    {"name": "jittered", "schedule": "0 */2 * * *", "jitter_seconds": 600},
    {"name": "workdays", "schedule": "30 */4 * * *", "calendar": "office"},
    {
        "name": "berlin",
        "schedule": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "calendar": "office",
    },
    {"name": "paused", "schedule": "15 */2 * * *"},
    {"name": "postponed-a", "schedule": "0 * * * *"},
    {"name": "postponed-b", "schedule": "20 1 * * *", "jitter_seconds": 1800},
    {"name": "skipped", "schedule": "*/30 * * * *"},
    {"name": "uses-ops", "schedule": "0 5,6,7 * * *", "steps": [OTHER]},
    {
        "name": "thrice",
        "schedules": [{"name": "often", "every": "7h", "max_fires": 3}],
    },
    {
        "name": "off",
        "enabled": False,
        "schedule": "0 * * * *",
        "presets": [{"name": "own", "schedule": "45 9 * * *", "timezone": "Asia/Tokyo"}],
    },
]
BLACKOUTS = [
    BlackoutRow(
        name="skip",
        from_at=T0 + 20 * HOUR,
        until=T0 + 50 * HOUR,
        jobs=("skipped", "jitter*"),
    ),
    BlackoutRow(
        name="later",
        from_at=T0 + 30 * HOUR,
        until=T0 + 40 * HOUR + timedelta(minutes=7),
        jobs=("postponed-*",),
        action="postpone",
    ),
    BlackoutRow(
        name="and-later",
        from_at=T0 + 39 * HOUR,
        until=T0 + 45 * HOUR,
        jobs=("postponed-a",),
        action="postpone",
    ),
    BlackoutRow(
        name="ops",
        from_at=T0 + 90 * HOUR,
        until=T0 + 114 * HOUR,
        connectors=("ops-db",),
    ),
]
CALENDARS = {
    "office": {
        "weekdays": ["mon", "tue", "wed", "thu", "fri"],
        "windows": ["00:00-20:00"],
        "exclude": ["2030-04-02"],
    }
}


async def declare(db, bell):
    await closures.replace_files(db, CALENDARS, [])
    for raw in JOBS:
        job = await catalog.create(
            db, bell, {"steps": [STEP], "overlap": "allow", **raw}, by="test"
        )
        for row in await schedules.of_job(db, job.id):
            if row.next_fire_at is not None:
                at = clocks.following(row, T0)
                shift = clocks.offset(job.name, row.name, row.jitter_seconds)
                await schedules.set_next(db, row.id, at, at and at + shift)
    for blackout in BLACKOUTS:
        await closures.set_blackout(db, blackout)
    await db.execute(
        "UPDATE jobs SET paused_from = $1, paused_until = $2 WHERE name = 'paused'",
        T0,
        T0 + 26 * HOUR,
    )


async def test_a_week_happens_as_it_was_forecast(db, bell):
    await declare(db, bell)
    sky = await horizon.closed(db, T0)
    ticking = await horizon.clocks(db, sky, await job_pages.outlines(db))
    foreseen = [
        (shown.planned.at, shown.planned.job, shown.planned.schedule)
        for shown in takewhile(
            lambda shown: shown.planned.at < END, forecast.calendar(ticking, sky, T0, END)
        )
    ]
    happened = []
    while True:
        coming = await due.coming(db)
        if coming.look_at is None or coming.look_at >= END:
            break
        await fire.tick(db, bell, at=coming.look_at)
        rows = await db.fetch(
            """SELECT job_name, schedule_name FROM runs
               WHERE status = 'queued' AND params = '{}'::jsonb"""
        )
        happened += [(coming.look_at, row["job_name"], row["schedule_name"]) for row in rows]
        await db.execute(
            "UPDATE runs SET status = 'aborted', finished_at = now() WHERE status = 'queued'"
        )
    assert sorted(happened) == sorted(foreseen)
    assert len(foreseen) > 200
    closed = await db.fetch("SELECT DISTINCT split_part(reason, ':', 1) AS why FROM slots")
    assert {row["why"] for row in closed} >= {"blackout", "calendar", "paused", None}
