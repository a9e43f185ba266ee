"""Turning clocks on and off from outside: a job's pause, one schedule, blackouts, all of them.

All of it is state in the database. It holds for jobs of files as well, and survives reloads.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from nomaflow.errors import Code, NomaflowError
from nomaflow.in_force import clocks, definitions
from nomaflow.store import closures, jobs, schedules, switches
from nomaflow.store.closures import BlackoutRow

if TYPE_CHECKING:
    from nomaflow.broker.bell import Bell
    from nomaflow.clock.calendars import Blackout
    from nomaflow.store.database import Connection, Database
    from nomaflow.store.jobs import JobRow
    from nomaflow.store.schedules import ScheduleRow

log = structlog.get_logger(__name__)

LONGEST_PAUSE = timedelta(days=3660)
MOST_BLACKOUTS = 500
FILE = "calendars.toml"


async def pause_job(
    db: Database, bell: Bell, name: str, until: datetime | None, *, by: str
) -> JobRow:
    """Stop a job's clocks until an instant; None ends the pause. What it missed is not made up.

    Raises NomaflowError NOT_FOUND, or INVALID for an instant that is past or absurdly far.
    """
    async with db.transaction() as connection:
        await _job(connection, name)
        if until is not None:
            _check_until(until, await switches.now(connection))
        await closures.pause_job(connection, name, until, by)
        job = await _job(connection, name)
        await switches.touch(connection, job.id, by)
    bell.catalog(name)
    log.info("a job's pause was set", job=name, until=until and until.isoformat(), by=by)
    return job


def _check_until(until: datetime, now: datetime) -> None:
    if until <= now:
        raise NomaflowError(
            Code.INVALID,
            "`until` is in the past; give a later time, or null to end a pause",
            ("until",),
        )
    if until > now + LONGEST_PAUSE:
        raise NomaflowError(
            Code.INVALID,
            "a pause lasts at most ten years; to stop a job for good, disable it",
            ("until",),
        )


@dataclass(frozen=True, slots=True)
class Switch:
    """What is to become of one clock."""

    job: str
    schedule: str
    on: bool
    reset_count: bool = False


async def set_schedule(db: Database, bell: Bell, wanted: Switch, *, by: str) -> JobRow:
    """Switch one clock; one that is switched on goes on from now, and never fires the past (S12).

    With its count reset it begins anew: `max_fires` counts from 0, and `fire_on_start` fires.
    Raises NomaflowError: NOT_FOUND, CONFLICT when the definition itself says that it is off.
    """
    async with db.transaction() as connection:
        job = await _job(connection, wanted.job)
        row = await _schedule(connection, job, wanted.schedule)
        if wanted.on and not row.declared_enabled:
            where = job.source_file or "its definition"
            raise NomaflowError(
                Code.CONFLICT,
                f"schedule `{row.name}` of job `{job.name}` says `enabled = false` in {where}; "
                "change it there",
                ("schedule",),
            )
        if wanted.reset_count and row.next_fire_at is not None:
            # The clock stops for a moment, so that its next due time is worked out as at a start.
            off = Switch(wanted.job, wanted.schedule, on=False)
            await _turn(connection, job, row, off)
        await _turn(connection, job, row, wanted)
        await switches.touch(connection, job.id, by)
        job = await _job(connection, wanted.job)
    bell.catalog(job.name)
    log.info("a schedule was switched", job=job.name, schedule=row.name, on=wanted.on, by=by)
    return job


async def _turn(connection: Connection, job: JobRow, row: ScheduleRow, wanted: Switch) -> None:
    await switches.set_schedule(connection, row.id, on=wanted.on, reset_count=wanted.reset_count)
    await clocks.set_for(connection, job.id, definitions.of_job(job))


async def _schedule(connection: Connection, job: JobRow, name: str) -> ScheduleRow:
    rows = await schedules.of_job(connection, job.id)
    for row in rows:
        if row.name == name:
            return row
    there = ", ".join(f"`{row.name}`" for row in rows)
    known = f"it has {there}" if there else "it has none: it runs only when asked"
    raise NomaflowError(
        Code.NOT_FOUND, f"job `{job.name}` has no schedule `{name[:128]}`; {known}", ("schedule",)
    )


async def _job(connection: Connection, name: str) -> JobRow:
    job = await jobs.find(connection, name, lock=True)
    if job is None:
        raise NomaflowError(Code.NOT_FOUND, f"there is no job `{name[:128]}`", ("name",))
    return job


async def check_blackout(db: Connection | Database, blackout: Blackout, now: datetime) -> None:
    """Refuse a blackout that may not be saved: over already, or the file's own.

    Raises NomaflowError INVALID, CONFLICT (naming the file), LIMIT_EXCEEDED.
    """
    if blackout.until <= now:
        raise NomaflowError(
            Code.INVALID, "`until` is in the past: the blackout is over already", ("until",)
        )
    there = await closures.blackout(db, blackout.name)
    if there is not None:
        _refuse_file(there)
    elif len(await closures.blackouts(db, since=now)) >= MOST_BLACKOUTS:
        raise NomaflowError(
            Code.LIMIT_EXCEEDED, f"there are {MOST_BLACKOUTS} blackouts already; delete some"
        )


async def set_blackout(db: Database, blackout: Blackout, *, by: str) -> None:
    """Save a blackout under its name. Raises what `check_blackout` raises."""
    async with db.transaction() as connection:
        await check_blackout(connection, blackout, await switches.now(connection))
        await closures.set_blackout(
            connection,
            BlackoutRow(
                name=blackout.name,
                from_at=blackout.from_at,
                until=blackout.until,
                jobs=blackout.jobs,
                connectors=blackout.connectors,
                action=blackout.action.value,
                by=by,
            ),
        )
    log.info("a blackout was set", blackout=blackout.name, until=blackout.until.isoformat(), by=by)


async def delete_blackout(db: Database, name: str, *, by: str) -> None:
    """End a blackout for good. Raises NomaflowError NOT_FOUND, CONFLICT for one of the file."""
    async with db.transaction() as connection:
        there = await closures.blackout(connection, name)
        if there is None:
            raise NomaflowError(Code.NOT_FOUND, f"there is no blackout `{name[:128]}`", ("name",))
        _refuse_file(there)
        await closures.delete_blackout(connection, name)
    log.info("a blackout was deleted", blackout=name, by=by)


def _refuse_file(there: BlackoutRow) -> None:
    if there.origin == "file":
        raise NomaflowError(
            Code.CONFLICT,
            f"blackout `{there.name}` is declared in {FILE}; change it there",
            ("name",),
        )


async def pause_scheduler(db: Database, *, paused: bool, by: str) -> bool:
    """Stop every clock, or let them go on from now (S19); answers how the switch stands."""
    async with db.transaction() as connection:
        await closures.pause_scheduler(connection, paused, by)
    log.info("the scheduler's switch was set", paused=paused, by=by)
    return (await closures.scheduler_paused(db)).paused
