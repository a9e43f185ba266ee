"""A job's clocks as its definition declares them, with the next due time of each.

Editing, enabling or reloading never fires the past: a next due time is always worked out from
now, one that is still right is left alone, and one that nobody served before the change is
recorded as missed.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from nomaflow.clock import schedule
from nomaflow.store import jobs, missed, schedules

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from nomaflow.job.spec import JobSpec, ScheduleSpec
    from nomaflow.store.database import Connection
    from nomaflow.store.jobs import JobRow
    from nomaflow.store.schedules import DeclaredSchedule, ScheduleRow

CHANGED = "missed: no scheduler fired it before its schedule was changed or switched"
MOST_COUNTED = 100_000
"""Due times that a change counts; a clock that stood still for longer has missed at least these."""


async def set_for(connection: Connection, job_id: UUID, spec: JobSpec) -> None:
    """Make the job's clocks what `spec` says, running only if the job is enabled and in force."""
    job = await jobs.find_by_id(connection, job_id)
    now: datetime = await connection.fetchval("SELECT now()")
    old = {row.name: row for row in await schedules.of_job(connection, job_id)}
    clocks = [
        _declared(spec, clock, old.get(clock.name), now, running=_runs(job, spec, clock))
        for clock in spec.clocks
    ]
    if _same(old, clocks):
        return
    kept = {c.name for c in clocks if c.name in old and c.next_fire_at == old[c.name].next_fire_at}
    for row in old.values():
        if row.name not in kept:
            await _record_missed(connection, row, now)
    await schedules.replace(connection, job_id, clocks)


def offset(job: str, clock: str, jitter_seconds: float) -> timedelta:
    """By how much a clock is looked at after its due time: always the same, below its jitter."""
    if not jitter_seconds:
        return timedelta()
    digest = hashlib.sha256(f"{job}\0{clock}".encode()).digest()
    share = int.from_bytes(digest[:8]) / 2**64
    return timedelta(milliseconds=int(share * jitter_seconds * 1000))


# Many jobs share one expression: a thousand of them due at once cost one calculation.
@lru_cache(maxsize=16_384)
def next_due(
    cron: str | None, every_seconds: float | None, timezone: str, after: datetime
) -> datetime | None:
    """Return the first due time strictly after `after` (UTC), or None when there is none."""
    if cron is not None:
        return schedule.parse(cron).next_after(after, timezone)
    if every_seconds is not None:
        return after + timedelta(seconds=every_seconds)
    return None


def following(clock: ScheduleRow, after: datetime) -> datetime | None:
    """Return the first due time strictly after another one, whatever the clock may still fire."""
    return next_due(clock.cron, clock.every_seconds, clock.timezone, after)


def _runs(job: JobRow | None, spec: JobSpec, clock: ScheduleSpec) -> bool:
    return job is not None and (job.enabled or spec.fires_when_disabled(clock.name))


def _declared(
    spec: JobSpec, clock: ScheduleSpec, old: ScheduleRow | None, now: datetime, *, running: bool
) -> DeclaredSchedule:
    window = _own(clock.catch_up_window_minutes, spec.catch_up_window_minutes)
    jitter = float(_own(clock.jitter_seconds, spec.jitter_seconds) or 0)
    next_fire_at = _next_fire_at(spec, clock, old, now) if running else None
    return schedules.DeclaredSchedule(
        name=clock.name,
        cron=clock.cron,
        every_seconds=clock.every_seconds,
        timezone=clock.timezone,
        params=clock.params,
        enabled=clock.enabled,
        fire_on_start=clock.fire_on_start,
        max_fires=clock.max_fires,
        preset=clock.preset,
        catch_up=clock.catch_up or spec.catch_up,
        catch_up_limit=clock.catch_up_limit or spec.catch_up_limit,
        catch_up_window_seconds=None if window is None else window * 60,
        jitter_seconds=jitter,
        calendar=(spec.calendar if clock.calendar is None else clock.calendar) or None,
        next_fire_at=next_fire_at,
        look_at=next_fire_at and next_fire_at + offset(spec.name, clock.name, jitter),
    )


def _own(value: float | None, jobs_value: float | None) -> float | None:
    return jobs_value if value is None else value


def _next_fire_at(
    spec: JobSpec, clock: ScheduleSpec, old: ScheduleRow | None, now: datetime
) -> datetime | None:
    switched_on = old.switched_on if old else True
    spent = bool(clock.max_fires and old and old.fire_count >= clock.max_fires)
    if not clock.enabled or not switched_on or spent:
        return None
    if old and old.next_fire_at and _ticks_alike(clock, old):
        # Due already, and nobody has served it: it stays, unless what becomes of it has changed.
        if old.next_fire_at > now or (clock.catch_up or spec.catch_up) == old.catch_up:
            return old.next_fire_at
    elif clock.fire_on_start and (old is None or old.fire_count == 0):
        return now
    return next_due(clock.cron, clock.every_seconds, clock.timezone, now)


def _ticks_alike(clock: ScheduleSpec | DeclaredSchedule, old: ScheduleRow) -> bool:
    return (clock.cron, clock.every_seconds, clock.timezone) == (
        old.cron,
        old.every_seconds,
        old.timezone,
    )


def _same(old: dict[str, ScheduleRow], clocks: list[DeclaredSchedule]) -> bool:
    return set(old) == {c.name for c in clocks} and all(
        _facts(old[c.name]) == _facts(c) and old[c.name].declared_enabled == c.enabled
        for c in clocks
    )


def _facts(clock: ScheduleRow | DeclaredSchedule) -> tuple[object, ...]:
    return (
        clock.cron,
        clock.every_seconds,
        clock.timezone,
        dict(clock.params),
        clock.fire_on_start,
        clock.max_fires,
        clock.preset,
        clock.catch_up,
        clock.catch_up_limit,
        clock.catch_up_window_seconds,
        clock.jitter_seconds,
        clock.calendar,
        clock.next_fire_at,
    )


async def _record_missed(connection: Connection, clock: ScheduleRow, now: datetime) -> None:
    """Write down what was due before a change and was not served."""
    times: list[datetime] = []
    at = clock.next_fire_at
    while at is not None and at <= now and len(times) < MOST_COUNTED:
        times.append(at)
        at = following(clock, at)
    if times:
        await missed.record(connection, clock.id, [missed.Stretch(tuple(times), "missed", CHANGED)])
