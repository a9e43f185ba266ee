"""A job's clocks as its definition declares them, with the next due time of each.

Editing, enabling or reloading never fires the past: a next due time is always worked out from
now, and one that is still right is left alone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from nomaflow import schedule
from nomaflow.store import jobs, schedules

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from nomaflow.job.spec import JobSpec, ScheduleSpec
    from nomaflow.store.database import Connection
    from nomaflow.store.schedules import ScheduleRow


async def set_for(connection: Connection, job_id: UUID, spec: JobSpec) -> None:
    """Make the job's clocks what `spec` says, running only if the job is enabled and in force."""
    job = await jobs.find_by_id(connection, job_id)
    now: datetime = await connection.fetchval("SELECT now()")
    old = {row.name: row for row in await schedules.of_job(connection, job_id)}
    running = job is not None and job.enabled
    clocks = [_declared(s, old.get(s.name), now, running=running) for s in spec.schedules]
    if not _same(old, clocks):
        await schedules.replace(connection, job_id, clocks)


def next_due(
    cron: str | None, every_seconds: float | None, timezone: str, after: datetime
) -> datetime | None:
    """Return the first due time strictly after `after` (UTC), or None when there is none."""
    if cron is not None:
        return schedule.parse(cron).next_after(after, timezone)
    if every_seconds is not None:
        return after + timedelta(seconds=every_seconds)
    return None


def _declared(
    spec: ScheduleSpec, old: ScheduleRow | None, now: datetime, *, running: bool
) -> schedules.DeclaredSchedule:
    next_fire_at = None
    switched_on = old.switched_on if old else True
    spent = bool(spec.max_fires and old and old.fire_count >= spec.max_fires)
    if running and spec.enabled and switched_on and not spent:
        if old and old.next_fire_at and _ticks_alike(spec, old):
            next_fire_at = old.next_fire_at
        elif spec.fire_on_start and (old is None or old.fire_count == 0):
            next_fire_at = now
        else:
            next_fire_at = next_due(spec.cron, spec.every_seconds, spec.timezone, now)
    return schedules.DeclaredSchedule(
        name=spec.name,
        cron=spec.cron,
        every_seconds=spec.every_seconds,
        timezone=spec.timezone,
        params=spec.params,
        enabled=spec.enabled,
        fire_on_start=spec.fire_on_start,
        max_fires=spec.max_fires,
        preset=spec.preset,
        next_fire_at=next_fire_at,
    )


def _ticks_alike(spec: ScheduleSpec, old: ScheduleRow) -> bool:
    return (spec.cron, spec.every_seconds, spec.timezone) == (
        old.cron,
        old.every_seconds,
        old.timezone,
    )


def _same(old: dict[str, ScheduleRow], clocks: list[schedules.DeclaredSchedule]) -> bool:
    if set(old) != {c.name for c in clocks}:
        return False
    return all(
        _ticks_alike_rows(old[c.name], c)
        and old[c.name].params == c.params
        and old[c.name].declared_enabled == c.enabled
        and old[c.name].next_fire_at == c.next_fire_at
        and (old[c.name].fire_on_start, old[c.name].max_fires, old[c.name].preset)
        == (c.fire_on_start, c.max_fires, c.preset)
        for c in clocks
    )


def _ticks_alike_rows(old: ScheduleRow, new: schedules.DeclaredSchedule) -> bool:
    return (old.cron, old.every_seconds, old.timezone) == (
        new.cron,
        new.every_seconds,
        new.timezone,
    )
