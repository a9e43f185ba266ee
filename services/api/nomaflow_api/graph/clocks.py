"""Clocks as the graph shows them: schedules and presets of a job, fires ahead, due times behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime
from inspect import isawaitable
from itertools import islice
from typing import Any, TypeVar, cast

import strawberry

from nomaflow.clock import forecast, schedule
from nomaflow.clock.forecast import Clock, Closures
from nomaflow.in_force import horizon
from nomaflow.job.spec import PresetSpec
from nomaflow.store.jobs import JobRow
from nomaflow.store.schedules import ScheduleRow
from nomaflow.store.slots import SlotRow
from nomaflow_api.context import Asked
from nomaflow_api.graph import cursors
from nomaflow_api.graph.base import PageInfo
from nomaflow_api.graph.enums import CatchUpPolicy, LogLevel
from nomaflow_api.graph.runs import Run, as_run
from nomaflow_api.graph.scalars import Json

T = TypeVar("T")
SKY = "sky"
"""The one key under which an operation reads what closes clocks."""


async def now(value: T | Awaitable[T]) -> T:
    """Return what a batch gave: it may be a promise."""
    return await value if isawaitable(value) else value


def _described(root: ScheduleRow) -> str:
    return described(root.cron, root.every_seconds)


def described(cron: str | None, every_seconds: float | None) -> str:
    """Say a clock in plain words."""
    if cron is not None:
        return schedule.parse(cron).describe()
    return schedule.describe_interval(every_seconds or 0)


async def _upcoming(root: ScheduleRow, info: Asked, first: int | None = 3) -> list[datetime]:
    size = cursors.window(first=first, after=None, read=tuple).size
    job = await now(info.context.load.jobs.get(root.job_id))
    sky = await now(info.context.load.sky.get(SKY))
    if job is None:
        return []
    clock = horizon.clock(job, root, sky)
    if clock.next_due is None:
        # It stands still; so these are the times at which it would fire if it were switched on.
        return await asyncio.to_thread(fires, clock, Closures(), size, datetime.now(UTC))
    # A leap day is years from the next one: whoever asks for many must not hold up everybody.
    since = datetime.now(UTC) - horizon.GRACE
    return await asyncio.to_thread(fires, clock, sky, size, since)


def fires(clock: Clock, sky: Closures, count: int, since: datetime) -> list[datetime]:
    """List the coming fires of a clock, in UTC."""
    if clock.next_due is None and clock.cron is not None:
        return schedule.upcoming(clock.cron, clock.timezone, since, count)
    return [planned.at for planned in islice(forecast.fires(clock, sky, since), count)]


async def _next_fire_at(root: ScheduleRow, info: Asked) -> datetime | None:
    return await next_fire(info, root)


async def next_fire(info: Asked, row: ScheduleRow) -> datetime | None:
    """Work out when a clock will really fire: pauses, calendars, blackouts and jitter heeded."""
    if row.next_fire_at is None:
        return None
    job = await now(info.context.load.jobs.get(row.job_id))
    sky = await now(info.context.load.sky.get(SKY))
    return None if job is None else horizon.next_fire(job, row, sky, datetime.now(UTC))


@strawberry.type
class Schedule:
    name: str
    enabled: bool
    cron: str | None
    every_seconds: float | None
    timezone: str
    catch_up: CatchUpPolicy
    catch_up_limit: int
    calendar: str | None
    jitter_seconds: float
    params: Json
    next_fire_at: datetime | None = strawberry.field(
        resolver=_next_fire_at,
        description="When it will really fire: pauses, calendars, blackouts and jitter are heeded",
    )
    last_fire_at: datetime | None
    fire_count: int
    fire_on_start: bool
    max_fires: int
    preset: str | None
    description: str = strawberry.field(resolver=_described)
    warning: str | None = strawberry.field(
        description="What is odd about it, such as that it fires faster than its runs end"
    )
    upcoming: list[datetime] = strawberry.field(
        resolver=_upcoming,
        description="Its real fires ahead; of one that is switched off, when it would fire",
    )


def _of_preset(name: str) -> Any:
    return strawberry.field(resolver=lambda root: getattr(root.spec, name))


class PresetRow:
    """A preset of a job, which it needs to find its clock."""

    def __init__(self, job: JobRow, spec: PresetSpec) -> None:
        self.job = job
        self.spec = spec


async def _preset_fires(root: PresetRow, info: Asked) -> datetime | None:
    if root.spec.schedule is None:
        return None
    rows = await now(info.context.load.clocks.get(root.job.id))
    for row in rows:
        if row.name == root.spec.name:
            return await next_fire(info, row)
    return None


def _preset_zone(root: PresetRow) -> str | None:
    return root.spec.timezone if root.spec.schedule is not None else None


@strawberry.type(
    description="TOML kwargs and steps of a preset; the REST door's op_kwargs and step_enabled"
)
class Preset:
    name: str = _of_preset("name")
    params: Json = _of_preset("params")
    step_kwargs: Json = _of_preset("kwargs")
    step_enabled: Json = _of_preset("steps")
    log_level: LogLevel | None = _of_preset("log_level")
    schedule: str | None = _of_preset("schedule")
    timezone: str | None = strawberry.field(resolver=_preset_zone)
    next_fire_at: datetime | None = strawberry.field(resolver=_preset_fires)


def presets_of(job: JobRow, presets: tuple[PresetSpec, ...]) -> list[Preset]:
    """Show the presets of a job."""
    return cast("list[Preset]", [PresetRow(job, preset) for preset in presets])


def _slot_run(root: SlotRow, info: Asked) -> Run | None:
    return as_run(info.context.load.runs.get(root.run_id)) if root.run_id else None


def _slot_replay(root: SlotRow, info: Asked) -> Run | None:
    return as_run(info.context.load.replays.get(root.run_id)) if root.run_id else None


def _of_slot(name: str) -> Any:
    return strawberry.field(resolver=lambda root: getattr(root, name))


@strawberry.type(description="One due time of a schedule and what became of it")
class Slot:
    job: str = _of_slot("job_name")
    schedule: str = _of_slot("schedule_name")
    timezone: str
    due_at: datetime
    outcome: str = strawberry.field(
        description="fired, caught_up, skipped, missed; waiting (for a dependency) and postponed "
        "(by a blackout) are still open"
    )
    reason: str | None
    run: Run | None = strawberry.field(resolver=_slot_run)
    replay: Run | None = strawberry.field(
        resolver=_slot_replay, description="The newest run that ran it again for this due time"
    )
    until: datetime | None = strawberry.field(
        description="The last of many that went the same way and are one row; dueAt is the first"
    )
    count: int = strawberry.field(description="How many due times this row stands for")
    at: datetime = strawberry.field(description="When this was recorded")
    look_at: datetime | None = strawberry.field(description="When an open one is looked at again")
    waits_until: datetime | None = strawberry.field(
        resolver=lambda root: root.deadline, description="Until when it waits at the longest"
    )


@strawberry.type
class SlotConnection:
    nodes: list[Slot]
    page_info: PageInfo


@strawberry.type
class PlannedFire:
    at: datetime
    due_at: datetime = strawberry.field(
        description="Its nominal due time: jitter, or the end of a blackout, may set it later"
    )
    job: str
    schedule: str
    timezone: str
    tag: str | None = strawberry.field(description="The job's first tag, for a colour")
    collides: bool = strawberry.field(
        description="Another fire begins at the same second, of whichever job or schedule"
    )
    closed: str | None = strawberry.field(
        description="Why it will not fire; only shown with includeClosed"
    )


@strawberry.type
class PlannedFireConnection:
    nodes: list[PlannedFire]
    page_info: PageInfo


@strawberry.type
class SchedulePreview:
    fires: list[datetime]
    description: str | None = strawberry.field(description="The schedule in plain words")
    error: str | None
    remarks: list[str] = strawberry.field(
        description="Of these fires, those that a change of the clock moves or would double"
    )


@strawberry.type
class Blackout:
    name: str
    from_: datetime = strawberry.field(name="from", resolver=lambda root: root.from_at)
    until: datetime
    jobs: list[str]
    connectors: list[str]
    action: str
    origin: str = strawberry.field(description="file (calendars.toml) or api")
    by: str
    at: datetime
