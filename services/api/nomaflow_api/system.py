"""The installation itself: who asks, which programs are alive, what is wrong with the files."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from typing import Any, cast

import strawberry

from nomaflow.clock import forecast
from nomaflow.clock.forecast import Clock, Closures
from nomaflow.in_force import horizon
from nomaflow.steps import registry
from nomaflow.store import closures, overview, problems, processes, slots
from nomaflow_api.auth import Permission
from nomaflow_api.context import Asked
from nomaflow_api.graph.enums import Permission as PermissionEnum
from nomaflow_api.graph.enums import SchedulerState
from nomaflow_api.graph.runs import Run
from nomaflow_api.graph.scalars import Json

VERSION = version("nomaflow")
FAILURES_SHOWN = 10
MOST_LATE, MOST_OF_ONE = 1_000, 1_000
"""Clocks that are late, and due times of each, that are counted."""


@strawberry.type
class Viewer:
    name: str
    permissions: list[PermissionEnum]


@strawberry.type
class SchedulerInstance:
    name: str
    state: SchedulerState = strawberry.field(
        description="ERROR also for one that has given no sign of life for 10 seconds; it is "
        "listed for 5 more, and the last one until another is there"
    )
    heartbeat_at: datetime | None
    last_fire_at: datetime | None = strawberry.field(
        description="Of one that fires: the newest due time that fired"
    )
    next_fire_at: datetime | None = strawberry.field(
        description="Of one that fires: when it looks at a clock next"
    )


@strawberry.type
class Worker:
    name: str
    started_at: datetime
    seen_at: datetime
    running: int
    capacity: int


async def _schedulers(info: Asked) -> list[SchedulerInstance]:
    known = {state.value for state in SchedulerState}
    ticking = await slots.ticking(info.context.db)
    found = []
    for program in await processes.last_alive(info.context.db, "scheduler"):
        well = program.state in known and not program.is_silent
        state = SchedulerState(program.state if well else "error")
        fires = state in {SchedulerState.ACTIVE, SchedulerState.ERROR}
        found.append(
            SchedulerInstance(
                name=program.name,
                state=state,
                heartbeat_at=program.seen_at,
                last_fire_at=ticking.last_fire_at if fires else None,
                next_fire_at=ticking.next_look_at if fires else None,
            )
        )
    return found


async def _scheduler_paused(info: Asked) -> bool:
    return (await closures.scheduler_paused(info.context.db)).paused


async def _unaccounted(info: Asked) -> int:
    """Count due times that are past and have no row; of one clock at most so many."""
    moment = datetime.now(UTC)
    late = await slots.overdue(info.context.db, horizon.GRACE.total_seconds(), MOST_LATE)
    return await asyncio.to_thread(lambda: sum(_past(clock, moment) for clock in late))


def _past(late: slots.Overdue, moment: datetime) -> int:
    clock = Clock(
        job="",
        name="",
        cron=late.cron,
        every_seconds=late.every_seconds,
        timezone=late.timezone,
        next_due=late.next_fire_at,
    )
    due = forecast.fires(clock, Closures(), late.next_fire_at, moment - horizon.GRACE)
    return sum(1 for _ in islice(due, MOST_OF_ONE)) or 1


async def _workers(info: Asked) -> list[Worker]:
    return cast("list[Worker]", await processes.alive(info.context.db, "worker"))


async def _last_failures(info: Asked) -> list[Run]:
    return cast("list[Run]", await overview.last_failures(info.context.db, FAILURES_SHOWN))


@strawberry.type
class System:
    version: str
    schedulers: list[SchedulerInstance] = strawberry.field(resolver=_schedulers)
    queue_depth: int
    running: int
    scheduler_paused: bool = strawberry.field(resolver=_scheduler_paused)
    slots_unaccounted: int = strawberry.field(
        resolver=_unaccounted,
        description="Due times that are past by more than a minute and have no row yet: 0 unless "
        "no scheduler fires. Whoever comes next writes them down.",
    )
    workers: list[Worker] = strawberry.field(resolver=_workers)
    last_failures: list[Run] = strawberry.field(resolver=_last_failures)


@strawberry.type
class StepType:
    name: str
    title: str
    description: str
    json_schema: Json


@strawberry.type
class CatalogProblem:
    file: str
    line: int | None
    path: list[str]
    message: str
    at: datetime


def _described(step: Any) -> str:
    return " ".join((step.__doc__ or "").split())


@strawberry.type
class SystemQueries:
    @strawberry.field
    def viewer(self, info: Asked) -> Viewer:
        principal = info.context.caller.principal
        return Viewer(
            name=principal.name,
            permissions=[p for p in Permission if info.context.caller.may(p)],
        )

    @strawberry.field
    async def system(self, info: Asked) -> System:
        info.context.need(Permission.SEE)
        load = await overview.load(info.context.db)
        return System(version=VERSION, queue_depth=load.queued, running=load.running)

    @strawberry.field
    def step_types(self) -> list[StepType]:
        return [
            StepType(
                name=name,
                title=step.title,
                description=_described(step),
                json_schema=Json(registry.json_schema(name)),
            )
            for name, step in registry.all_types().items()
        ]

    @strawberry.field
    async def catalog_problems(self, info: Asked) -> list[CatalogProblem]:
        info.context.need(Permission.SEE)
        return cast("list[CatalogProblem]", await problems.all_of_them(info.context.db))
