"""A job as the graph shows it: its definition, its clocks, and what became of it lately."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from inspect import isawaitable
from typing import Any, cast

import strawberry

from nomaflow import definitions, schedule
from nomaflow.job.spec import JobSpec, PresetSpec, StepSpec
from nomaflow.steps import registry
from nomaflow.store.history import Order, RunFilter
from nomaflow.store.jobs import JobRow
from nomaflow.store.schedules import ScheduleRow
from nomaflow_api import cursors, run_lists
from nomaflow_api.context import ABSENT, Asked
from nomaflow_api.enums import JobOrigin, LogLevel, OverlapPolicy, Permission
from nomaflow_api.graph_base import Node, PageInfo, UserError, global_id
from nomaflow_api.graph_runs import Run, RunConnection, as_run
from nomaflow_api.run_lists import RunFilterInput
from nomaflow_api.scalars import Json


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


def _described(root: ScheduleRow) -> str:
    if root.cron is not None:
        return schedule.parse(root.cron).describe()
    return f"Every {timedelta(seconds=root.every_seconds or 0)}"


def _upcoming(root: ScheduleRow, first: int | None = 3) -> list[datetime]:
    size = cursors.window(first=first, after=None, read=tuple).size
    return fires(root.cron, root.every_seconds, root.timezone, size, root.next_fire_at)


def fires(
    cron: str | None,
    every_seconds: float | None,
    timezone: str,
    count: int,
    start: datetime | None = None,
    after: datetime | None = None,
) -> list[datetime]:
    """List the coming fires of a clock, in UTC; `start` is its next one if that is known."""
    now = after or datetime.now(UTC)
    if cron is not None:
        return schedule.upcoming(cron, timezone, now, count)
    step = timedelta(seconds=every_seconds or 0)
    first = start or now + step
    return [first + step * n for n in range(count)]


@strawberry.type
class Schedule:
    name: str
    enabled: bool
    cron: str | None
    every_seconds: float | None
    timezone: str
    params: Json
    next_fire_at: datetime | None
    last_fire_at: datetime | None
    fire_count: int
    fire_on_start: bool
    max_fires: int
    preset: str | None
    description: str = strawberry.field(resolver=_described)
    upcoming: list[datetime] = strawberry.field(resolver=_upcoming)


def _of_preset(name: str) -> Any:
    return strawberry.field(resolver=lambda root: getattr(root, name))


@strawberry.type(
    description="TOML kwargs and steps of a preset; the REST door's op_kwargs and step_enabled"
)
class Preset:
    name: str
    params: Json
    step_kwargs: Json = _of_preset("kwargs")
    step_enabled: Json = _of_preset("steps")
    log_level: LogLevel | None


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
    presets: tuple[PresetSpec, ...] = definitions.of_job(root).presets
    return cast("list[Preset]", list(presets))


def _schedules(root: JobRow, info: Asked) -> list[Schedule]:
    return cast("list[Schedule]", info.context.load.clocks.get(root.id))


async def _next_fire_at(root: JobRow, info: Asked) -> datetime | None:
    clocks = info.context.load.clocks.get(root.id)
    if isawaitable(clocks):
        clocks = await clocks
    return min((c.next_fire_at for c in clocks if c.next_fire_at), default=None)


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
    paused_until: datetime | None
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
    next_fire_at: datetime | None = strawberry.field(resolver=_next_fire_at)
    needs_parameters: bool = strawberry.field(
        resolver=lambda root: definitions.of_job(root).needs_parameters,
        description="A form is worth showing before running: more than one step, params or kwargs",
    )
    last_run: Run | None = strawberry.field(resolver=_last_run)
    last_success: Run | None = strawberry.field(resolver=_last_success)
    in_flight: list[Run] = strawberry.field(resolver=_in_flight)
    runs: RunConnection = strawberry.field(resolver=_runs)
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
