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
from nomaflow.in_force import definitions, reach
from nomaflow.store import job_pages, sky

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from nomaflow.store.closures import BlackoutRow
    from nomaflow.store.database import Connection, Database
    from nomaflow.store.job_pages import Outline
    from nomaflow.store.jobs import JobRow
    from nomaflow.store.schedules import ScheduleRow

log = structlog.get_logger(__name__)

TOGETHER = 500
"""Clocks that are gathered in one go."""
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
    connectors = reach.of(definitions.of_job(job), row) if _asks_for_connectors(above) else ()
    return _clock(job, row, connectors)


def _asks_for_connectors(above: Closures) -> bool:
    return any(blackout.connectors for blackout in above.blackouts)


def _clock(job: JobRow | Outline, row: ScheduleRow, connectors: tuple[str, ...]) -> Clock:
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


async def clocks(
    db: Connection | Database, above: Closures, jobs: Mapping[UUID, Outline]
) -> list[Clock]:
    """Read the clocks that tick of these jobs."""
    found = [
        (jobs[job_id], row)
        for job_id, rows in (await job_pages.clocks(db, list(jobs))).items()
        for row in rows
        if row.next_fire_at is not None
    ]
    read: list[Clock] = []
    reached = await reach.of_clocks(db, found) if _asks_for_connectors(above) else {}
    for at, (job, row) in enumerate(found):
        if at % TOGETHER == 0:
            await asyncio.sleep(0)  # others wait for this thread
        read.append(_clock(job, row, reached.get(row.id, ())))
    return read
