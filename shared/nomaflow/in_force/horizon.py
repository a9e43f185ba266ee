"""The clocks of jobs in force and what closes them, read from the database for a forecast."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from nomaflow.clock import forecast
from nomaflow.clock.calendars import Action, Blackout, Calendar
from nomaflow.clock.forecast import Clock, Closures
from nomaflow.errors import NomaflowError
from nomaflow.in_force import clocks as declared
from nomaflow.in_force import definitions
from nomaflow.job import uses
from nomaflow.store import job_pages, sky

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from nomaflow.store.closures import BlackoutRow
    from nomaflow.store.database import Connection, Database
    from nomaflow.store.jobs import JobRow
    from nomaflow.store.schedules import ScheduleRow

log = structlog.get_logger(__name__)

TOGETHER = 100
"""Jobs read in one go."""
GRACE = timedelta(seconds=60)
"""A due time that is late by no more than this still fires."""


async def closed(db: Connection | Database, now: datetime) -> Closures:
    """Read calendars, the blackouts that are not over, and the scheduler's switch."""
    found = await sky.read(db, now)
    return Closures(
        calendars=_calendars(found.calendars),
        blackouts=tuple(blackout_of(row) for row in found.blackouts),
        paused_by=found.switch.by if found.switch.paused else None,
        postponed=found.postponed,
    )


def _calendars(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Calendar]:
    read: dict[str, Calendar] = {}
    for name, definition in found.items():
        try:
            read[name] = Calendar.parse(definition)
        except NomaflowError as error:  # another version of this program wrote it
            log.warning("a stored calendar cannot be read", calendar=name, error=error.message)
    return read


def blackout_of(row: BlackoutRow) -> Blackout:
    """Return a stored blackout as the forecast reads it."""
    patterns = tuple(row.jobs), tuple(row.connectors)
    return Blackout(row.name, row.from_at, row.until, *patterns, Action(row.action))


def clock(job: JobRow, row: ScheduleRow, above: Closures) -> Clock:
    """Gather what of a job and of one of its clocks decides about its fires."""
    connectors: tuple[str, ...] = ()
    if any(blackout.connectors for blackout in above.blackouts):
        spec = definitions.of_job(job)
        preset = spec.preset(row.preset) if row.preset else None
        connectors = uses.connectors(spec, {**(preset.params if preset else {}), **row.params})
    return Clock(
        job=job.name,
        name=row.name,
        cron=row.cron,
        every_seconds=row.every_seconds,
        timezone=row.timezone,
        next_due=row.next_fire_at,
        jitter=declared.offset(job.name, row.name, row.jitter_seconds),
        fires_left=row.max_fires - row.fire_count if row.max_fires else None,
        calendar=row.calendar,
        connectors=connectors,
        paused_until=job.paused_until,
    )


def next_fire(job: JobRow, row: ScheduleRow, above: Closures, now: datetime) -> datetime | None:
    """When a clock will really fire next; None when nothing is foreseen."""
    if row.next_fire_at is None:
        return None
    return forecast.next_fire(clock(job, row, above), above, now - GRACE)


async def jobs(db: Connection | Database) -> list[JobRow]:
    """Read every job in force."""
    return await job_pages.definitions(db)


def depends_on(job: JobRow) -> list[str]:
    """Name the jobs that a job depends on, without reading the rest of its definition."""
    wanted = job.definition.get("depends_on") or ()
    return [one if isinstance(one, str) else one["job"] for one in wanted]


def stale_after(job: JobRow) -> float | None:
    """After how many hours without a success the job's alert says that it is stale, if it does."""
    hours: float | None = (job.definition.get("alerts") or {}).get("stale_after_hours")
    return hours


async def clocks(
    db: Connection | Database, above: Closures, names: Sequence[str] | None = None
) -> list[tuple[JobRow, Clock]]:
    """Read the clocks that tick, of all jobs in force or of those named."""
    if names is None:
        found: Iterable[JobRow] = await jobs(db)
    else:
        found = (await job_pages.by_name(db, names)).values()
    by_id = {job.id: job for job in found}
    rows = await job_pages.clocks(db, list(by_id))
    read: list[tuple[JobRow, Clock]] = []
    for at, (job_id, of_job) in enumerate(rows.items()):
        if at % TOGETHER == 0:
            await asyncio.sleep(0)  # definitions may have to be read; others wait for this thread
        job = by_id[job_id]
        read += [(job, clock(job, row, above)) for row in of_job if row.next_fire_at is not None]
    return read
