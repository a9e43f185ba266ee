"""Clocks of a test: declared, set to a time, ticked with time as an argument, and looked at."""

from datetime import UTC, datetime, timedelta

from nomaflow.in_force import catalog
from nomaflow.store import schedules
from nomaflow_scheduler import fire
from nomaflow_scheduler.fire import Ticked

STEP = {"name": "a", "type": "sql_query", "connector": "default", "query": "SELECT 1"}
T0 = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)  # a Tuesday
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=n) for n in (1, 60, 3600, 86_400))


async def declare(db, bell, name="j", due=T0, **fields):
    """A job whose clocks are all due next at `due`; answers the first clock's id."""
    raw = {"name": name, "steps": [STEP], **fields}
    job = await catalog.create(db, bell, raw, by="test")
    await set_due(db, due, job.id)
    return await db.fetchval("SELECT id FROM schedules WHERE job_id = $1 ORDER BY name", job.id)


async def set_due(db, due, job_id=None):
    """Set clocks back, or forth, jitter included."""
    rows = await db.fetch(
        "SELECT id, look_at - next_fire_at AS jitter FROM schedules WHERE job_id = $1", job_id
    )
    for row in rows:
        await schedules.set_next(db, row["id"], due, due + (row["jitter"] or timedelta()))


async def tick_through(db, bell, start, end, step):
    """Tick again and again from `start` to `end`; answers what it all came to."""
    done = Ticked()
    at = start
    while at <= end:
        done += await fire.tick(db, bell, at=at)
        at += step
    return done


async def slots(db, clock=None):
    """What became of each due time, in order: how long after T0, the outcome, why."""
    rows = await db.fetch(
        """SELECT due_at, outcome, reason, count FROM slots
           WHERE $1::uuid IS NULL OR schedule_id = $1 ORDER BY due_at""",
        clock,
    )
    return [(row["due_at"] - T0, row["outcome"], row["reason"]) for row in rows]


async def outcomes(db, clock=None):
    """How many due times had each outcome, gaps counted whole."""
    rows = await db.fetch(
        """SELECT outcome, sum(count)::int AS n FROM slots
           WHERE $1::uuid IS NULL OR schedule_id = $1 GROUP BY outcome""",
        clock,
    )
    return {row["outcome"]: row["n"] for row in rows}


async def fired(db, job=None):
    """Due times of the runs that are to be done, as time after T0."""
    rows = await db.fetch(
        """SELECT scheduled_for FROM runs WHERE status <> 'skipped'
             AND ($1::text IS NULL OR job_name = $1) ORDER BY queued_at, scheduled_for""",
        job,
    )
    return [row["scheduled_for"] - T0 for row in rows]


async def end_runs(db, status="succeeded", at=None, job=None):
    """End every run in flight, as if workers had done them."""
    await db.execute(
        """UPDATE runs SET status = $1, finished_at = coalesce($2, now()), lease_owner = NULL,
             lease_expires_at = NULL
           WHERE status IN ('queued', 'running') AND ($3::text IS NULL OR job_name = $3)""",
        status,
        at,
        job,
    )
