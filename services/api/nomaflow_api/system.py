"""The installation itself: who asks, which programs are alive, what is wrong with the files."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version
from typing import Any, cast

import strawberry

from nomaflow.steps import registry
from nomaflow.store import overview, problems, processes
from nomaflow_api.auth import Permission
from nomaflow_api.context import Asked
from nomaflow_api.enums import Permission as PermissionEnum
from nomaflow_api.enums import SchedulerState
from nomaflow_api.graph_runs import Run
from nomaflow_api.scalars import Json

VERSION = version("nomaflow")
FAILURES_SHOWN = 10


@strawberry.type
class Viewer:
    name: str
    permissions: list[PermissionEnum]


@strawberry.type
class SchedulerInstance:
    name: str
    state: SchedulerState
    heartbeat_at: datetime | None


@strawberry.type
class Worker:
    name: str
    started_at: datetime
    seen_at: datetime
    running: int
    capacity: int


async def _schedulers(info: Asked) -> list[SchedulerInstance]:
    known = {state.value for state in SchedulerState}
    return [
        SchedulerInstance(
            name=program.name,
            state=SchedulerState(program.state if program.state in known else "error"),
            heartbeat_at=program.seen_at,
        )
        for program in await processes.alive(info.context.db, "scheduler")
    ]


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
