"""A job as the graph shows it: its definition, its clocks, and what became of it lately."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import strawberry

from nomaflow.in_force import definitions
from nomaflow.job.spec import JobSpec, StepSpec
from nomaflow.steps import registry
from nomaflow.store.history import Order, RunFilter
from nomaflow.store.jobs import JobRow
from nomaflow_api.context import ABSENT, Asked
from nomaflow_api.graph import cursors, run_lists
from nomaflow_api.graph.base import Node, PageInfo, UserError, global_id
from nomaflow_api.graph.clocks import Preset, Schedule, next_fire, now, presets_of
from nomaflow_api.graph.enums import JobOrigin, LogLevel, OverlapPolicy, Permission
from nomaflow_api.graph.run_lists import RunFilterInput
from nomaflow_api.graph.runs import Run, RunConnection, as_run
from nomaflow_api.graph.scalars import Json
from nomaflow_api.graph.sync import (
    FailedBatchConnection,
    Watermark,
    batches_of_job,
    watermarks_of_job,
)


@strawberry.type
class Retry:
    attempts: int
    backoff: str
    base_seconds: float
    max_seconds: float | None
    jitter: bool
    retry_on: list[str]
    no_retry_statuses: list[int]


@strawberry.type
class Step:
    name: str
    type: str
    enabled: bool
    timeout_seconds: float
    retry: Retry
    when: str | None
    continue_on_error: bool
    on_interrupt: str
    config: Json

    @classmethod
    def of(cls, spec: JobSpec, step: StepSpec) -> Step:
        """Show a link of the chain with what its job and its type decide for it."""
        return cls(
            name=step.name,
            type=step.type,
            enabled=step.enabled,
            timeout_seconds=step.timeout_seconds,
            retry=cast("Retry", spec.retry_for(step)),
            when=step.when,
            continue_on_error=step.continue_on_error,
            on_interrupt=step.on_interrupt or _default_of_type(step),
            config=Json(step.config),
        )


def _default_of_type(step: StepSpec) -> str:
    found = registry.all_types().get(step.type)
    return found.model_construct(**step.config).interrupt_default() if found else "fail"


@strawberry.type
class Dependency:
    job: str
    since: str | None
    by: str | None


def _id(root: JobRow) -> strawberry.ID:
    return global_id("Job", root.id)


def _of_spec(name: str) -> Any:
    """Show a field of the definition under its own name."""
    return strawberry.field(resolver=lambda root: getattr(definitions.of_job(root), name))


def _toml(root: JobRow) -> str:
    return definitions.of_job(root).to_toml()


def _retry(root: JobRow) -> Retry:
    spec = definitions.of_job(root)
    return cast("Retry", spec.retry or type(spec.retry_for(spec.steps[0]))())


def _alerts(root: JobRow) -> Json | None:
    alerts = definitions.of_job(root).alerts
    return Json(alerts.model_dump(mode="json")) if alerts else None


def _steps(root: JobRow) -> list[Step]:
    spec = definitions.of_job(root)
    return [Step.of(spec, step) for step in spec.steps]


def _presets(root: JobRow) -> list[Preset]:
    return presets_of(root, definitions.of_job(root).presets)


def _dependencies(root: JobRow) -> list[Dependency]:
    return cast("list[Dependency]", list(definitions.of_job(root).depends_on))


def _schedules(root: JobRow, info: Asked) -> list[Schedule]:
    return cast("list[Schedule]", info.context.load.clocks.get(root.id))


async def _next_fire_at(root: JobRow, info: Asked) -> datetime | None:
    clocks = await now(info.context.load.clocks.get(root.id))
    fires = [await next_fire(info, clock) for clock in clocks]
    return min((at for at in fires if at is not None), default=None)


def _paused_until(root: JobRow) -> datetime | None:
    until = root.paused_until
    return until if until is not None and until > datetime.now(UTC) else None


async def _depends_on(root: JobRow, info: Asked) -> list[Job]:
    names = [one.job for one in definitions.of_job(root).depends_on]
    asked = [info.context.load.dependencies.get(name) for name in names]
    found = [await now(job) for job in asked]
    return cast("list[Job]", [job for job in found if job is not None])


def _last_run(root: JobRow, info: Asked) -> Run | None:
    return as_run(info.context.load.last_runs.get(root.id))


def _last_success(root: JobRow, info: Asked) -> Run | None:
    return as_run(info.context.load.last_successes.get(root.id))


def _in_flight(root: JobRow, info: Asked) -> list[Run]:
    return cast("list[Run]", info.context.load.in_flight.get(root.id))


async def _runs(
    root: JobRow,
    info: Asked,
    first: int | None = 20,
    after: str | None = ABSENT,
    last: int | None = ABSENT,
    before: str | None = ABSENT,
    filter: RunFilterInput | None = ABSENT,
) -> RunConnection:
    asked = run_lists.Asked(first=first, after=after, last=last, before=before)
    wanted = filter.as_filter() if filter else RunFilter()
    return await run_lists.connection(
        info, run_lists.of_job(wanted, root.name), asked, Order.QUEUED_DESC
    )


def _viewer_can(info: Asked) -> list[Permission]:
    return [p for p in Permission if info.context.caller.may(p)]


@strawberry.type
class Job(Node):
    id: strawberry.ID = strawberry.field(resolver=_id)
    name: str
    app: str
    description: str
    tags: list[str]
    enabled: bool
    paused_until: datetime | None = strawberry.field(resolver=_paused_until)
    origin: JobOrigin
    revision: int
    created_at: datetime
    updated_at: datetime
    updated_by: str
    definition: Json = strawberry.field(
        description="The whole definition, canonical form, secrets as references"
    )
    toml: str = strawberry.field(resolver=_toml)
    params: Json = _of_spec("params")
    param_schema: Json | None = _of_spec("param_schema")
    dependencies: list[Dependency] = strawberry.field(
        resolver=_dependencies, description="The jobs it depends on, as the definition says"
    )
    depends_on: list[Job] = strawberry.field(
        resolver=_depends_on,
        description="Jobs that must have succeeded before; those that are not declared are left "
        "out, and the definition says how they are waited for",
    )
    calendar: str | None = _of_spec("calendar")
    install_step: int | None = _of_spec("install_step")
    overlap: OverlapPolicy = _of_spec("overlap")
    queue_depth: int = _of_spec("queue_depth")
    lock: str | None = _of_spec("lock")
    worker: str = _of_spec("worker")
    priority: int = _of_spec("priority")
    timeout_seconds: float = _of_spec("timeout_seconds")
    log_level: LogLevel = _of_spec("log_level")
    retry: Retry = strawberry.field(resolver=_retry)
    alerts: Json | None = strawberry.field(resolver=_alerts)
    steps: list[Step] = strawberry.field(resolver=_steps)
    schedules: list[Schedule] = strawberry.field(resolver=_schedules)
    presets: list[Preset] = strawberry.field(resolver=_presets)
    next_fire_at: datetime | None = strawberry.field(
        resolver=_next_fire_at,
        description="When it will really fire: pauses, calendars, blackouts and jitter are heeded",
    )
    needs_parameters: bool = strawberry.field(
        resolver=lambda root: definitions.of_job(root).needs_parameters,
        description="A form is worth showing before running: more than one step, params or kwargs",
    )
    last_run: Run | None = strawberry.field(resolver=_last_run)
    last_success: Run | None = strawberry.field(resolver=_last_success)
    in_flight: list[Run] = strawberry.field(resolver=_in_flight)
    runs: RunConnection = strawberry.field(resolver=_runs)
    watermarks: list[Watermark] = strawberry.field(resolver=watermarks_of_job)
    failed_batches: FailedBatchConnection = strawberry.field(resolver=batches_of_job)
    viewer_can: list[Permission] = strawberry.field(resolver=_viewer_can)

    @classmethod
    def is_type_of(cls, obj: Any, _info: Any) -> bool:
        """Say which rows this type shows."""
        return isinstance(obj, JobRow)


@strawberry.type
class JobEdge:
    cursor: str
    node: Job


async def _count(root: cursors.Connection[JobRow]) -> int:
    return cast("int", await root.count())


@strawberry.type
class JobConnection:
    edges: list[JobEdge]
    nodes: list[Job]
    page_info: PageInfo
    total_count: int = strawberry.field(resolver=_count)


@strawberry.type
class JobPayload:
    job: Job | None
    errors: list[UserError]


@strawberry.type
class JobDeletePayload:
    name: str | None
    errors: list[UserError]


def as_job(row: JobRow | None) -> Job | None:
    """Show a row: rows are the objects, the types above only say what may be seen of them."""
    return cast("Job | None", row)
