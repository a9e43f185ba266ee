"""A run as the graph shows it, with its steps and their tries."""

from __future__ import annotations

from datetime import datetime
from inspect import isawaitable
from typing import TYPE_CHECKING, Annotated, Any, cast

import strawberry

from nomaflow.store.history import RunRow
from nomaflow.store.step_history import AttemptRow, StepRow
from nomaflow_api import cursors, waiting
from nomaflow_api.context import Asked
from nomaflow_api.enums import LogLevel, Permission, RunKind, RunStatus, StepStatus
from nomaflow_api.graph_base import Node, PageInfo, UserError, global_id
from nomaflow_api.graph_feed import (
    LogConnection,
    Progress,
    RunEventConnection,
    run_events,
    run_logs,
)
from nomaflow_api.graph_sync import (
    FailedBatchConnection,
    SyncResult,
    batches_of_run,
    sync_of_run,
)
from nomaflow_api.scalars import BigInt, Json

if TYPE_CHECKING:
    from nomaflow_api.graph_jobs import Job

Seconds = float | None


@strawberry.type
class Failure:
    type: str = strawberry.field(description="Class name")
    message: str
    traceback: str | None
    retryable: bool


def failure_of(row: RunRow | StepRow | AttemptRow) -> Failure | None:
    """Show the error a row keeps."""
    if row.error is None:
        return None
    return Failure(
        type=row.error.get("type") or "Error",
        message=row.error.get("message") or "",
        traceback=row.error.get("traceback"),
        retryable=bool(row.error.get("retryable", True)),
    )


def _attempt_error(root: AttemptRow) -> Failure | None:
    return failure_of(root)


@strawberry.type
class Attempt:
    number: int
    started_at: datetime
    finished_at: datetime | None
    status: StepStatus
    error: Failure | None = strawberry.field(resolver=_attempt_error)
    worker: str | None


def _step_id(root: StepRow) -> strawberry.ID:
    return global_id("StepRun", root.run_id, root.position)


def _step_seconds(root: StepRow) -> float | None:
    return _seconds(root.started_at, root.finished_at)


def _step_error(root: StepRow) -> Failure | None:
    return failure_of(root)


def _progress(root: StepRow) -> Progress | None:
    return Progress.of(root.progress)


async def _step_input(root: StepRow, info: Asked) -> Json | None:
    details = await info.context.load.details.find(root.key)
    return Json(details.input) if details and details.input is not None else None


async def _step_output(root: StepRow, info: Asked) -> Json | None:
    details = await info.context.load.details.find(root.key)
    return Json(details.output) if details and details.output is not None else None


def _attempts(root: StepRow, info: Asked) -> list[Attempt]:
    return cast("list[Attempt]", info.context.load.attempts.get(root.key))


@strawberry.type
class StepRun(Node):
    id: strawberry.ID = strawberry.field(resolver=_step_id)
    position: int
    name: str
    type: str
    status: StepStatus
    reason: str | None
    started_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None = strawberry.field(resolver=_step_seconds)
    input: Json | None = strawberry.field(
        resolver=_step_input, description="Settings after substitution, secrets masked"
    )
    output: Json | None = strawberry.field(
        resolver=_step_output, description="Small; big values are previews with their full size"
    )
    summary: str = strawberry.field(
        description="One line for a timeline: `status=200 · body=30 items`"
    )
    rows_affected: BigInt | None
    progress: Progress | None = strawberry.field(resolver=_progress)
    error: Failure | None = strawberry.field(resolver=_step_error)
    attempts: list[Attempt] = strawberry.field(resolver=_attempts)

    @classmethod
    def is_type_of(cls, obj: Any, _info: Any) -> bool:
        """Say which rows this type shows."""
        return isinstance(obj, StepRow)


def _seconds(started: datetime | None, finished: datetime | None) -> Seconds:
    return (finished - started).total_seconds() if started and finished else None


def _run_id(root: RunRow) -> strawberry.ID:
    return global_id("Run", root.id)


def _job(
    root: RunRow, info: Asked
) -> Annotated[Job, strawberry.lazy("nomaflow_api.graph_jobs")] | None:
    if root.job_id is None:
        return None
    return cast("Job | None", info.context.load.jobs.get(root.job_id))


def _run_seconds(root: RunRow) -> float | None:
    return _seconds(root.started_at, root.finished_at)


async def _waiting_for(root: RunRow, info: Asked) -> str | None:
    if root.status != "queued":
        return None
    waits = info.context.load.waits.get(root.id)
    if isawaitable(waits):
        waits = await waits
    return waiting.words(waits) if waits else None


def _run_error(root: RunRow) -> Failure | None:
    return failure_of(root)


def _replay_of(root: RunRow, info: Asked) -> Run | None:
    if root.replay_of is None:
        return None
    return as_run(info.context.load.runs.get(root.replay_of))


def _parent(root: RunRow, info: Asked) -> Run | None:
    if root.parent_run_id is None:
        return None
    return as_run(info.context.load.runs.get(root.parent_run_id))


def _children(root: RunRow, info: Asked) -> list[Run]:
    return cast("list[Run]", info.context.load.children.get(root.id))


def _steps(root: RunRow, info: Asked) -> list[StepRun]:
    return cast("list[StepRun]", info.context.load.steps.get(root.id))


@strawberry.type(description="What only a run has that an outside script executes and reports")
class ExternalRun:
    source: str
    destination: str
    records_processed: BigInt | None
    message: str | None
    heartbeat_at: datetime | None
    stale: bool = strawberry.field(
        description="It runs, and gave no sign of life for longer than it said it would"
    )


def _external(root: RunRow, info: Asked) -> ExternalRun | None:
    if root.kind != "external":
        return None
    return cast("ExternalRun | None", info.context.load.external.get(root.id))


def _params(root: RunRow, info: Asked) -> Json:
    """What a caller gave may be a secret all the same."""
    return Json(info.context.backing.secrets.masked(root.params))


def _overrides(root: RunRow, info: Asked) -> Json:
    return Json(info.context.backing.secrets.masked(root.overrides))


def _viewer_can(info: Asked) -> list[Permission]:
    return [p for p in Permission if info.context.caller.may(p)]


@strawberry.type
class Run(Node):
    id: strawberry.ID = strawberry.field(resolver=_run_id)
    kind: RunKind
    job_name: str
    job: Annotated[Job, strawberry.lazy("nomaflow_api.graph_jobs")] | None = strawberry.field(
        resolver=_job
    )
    job_revision: int | None
    status: RunStatus
    reason: str | None = strawberry.field(
        description=(
            "Why, in words: `skipped: previous run still running`, `timeout after 30 s`, ..."
        )
    )
    triggered_by: str = strawberry.field(
        description="cron | user:alice | api | cli:bob | call_job:<job>@<run>"
    )
    schedule_name: str | None
    scheduled_for: datetime | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None = strawberry.field(resolver=_run_seconds)
    waiting_for: str | None = strawberry.field(
        resolver=_waiting_for,
        description=(
            "What a queued run is waiting for: `retry at 12:03:04Z (attempt 2 of 3)`, "
            "`run <id> of this job`, ...; null when it is not queued"
        ),
    )
    params: Json = strawberry.field(
        resolver=_params, description="The merged parameters it actually used"
    )
    overrides: Json = strawberry.field(
        resolver=_overrides, description="What this fire changed against the definition"
    )
    log_level: LogLevel
    dry_run: bool
    idempotency_key: str | None
    replay_of: Run | None = strawberry.field(
        resolver=_replay_of, description="The earlier run that this one runs again"
    )
    parent: Run | None = strawberry.field(resolver=_parent)
    children: list[Run] = strawberry.field(
        resolver=_children, description="Runs that its steps started, the oldest 100"
    )
    worker: str | None
    interruptions: int
    abort_requested_by: str | None
    rows_affected: BigInt | None
    error: Failure | None = strawberry.field(resolver=_run_error)
    steps: list[StepRun] = strawberry.field(resolver=_steps)
    external: ExternalRun | None = strawberry.field(
        resolver=_external,
        description="Set for runs that an outside script executes and reports",
    )
    sync: SyncResult | None = strawberry.field(
        resolver=sync_of_run, description="Set for runs with an http_sync step"
    )
    failed_batches: FailedBatchConnection = strawberry.field(
        resolver=batches_of_run, description="Those that failed in it, or that it retries"
    )
    events: RunEventConnection = strawberry.field(resolver=run_events)
    logs: LogConnection = strawberry.field(resolver=run_logs)
    viewer_can: list[Permission] = strawberry.field(resolver=_viewer_can)

    @classmethod
    def is_type_of(cls, obj: Any, _info: Any) -> bool:
        """Say which rows this type shows."""
        return isinstance(obj, RunRow)


@strawberry.type
class RunEdge:
    cursor: str
    node: Run


async def _count(root: cursors.Connection[RunRow]) -> int | None:
    return cast("int | None", await root.count())


@strawberry.type
class RunConnection:
    edges: list[RunEdge]
    nodes: list[Run]
    page_info: PageInfo
    total_count: int | None = strawberry.field(
        resolver=_count, description="Exact to 10 000, then null"
    )


@strawberry.type(
    description=(
        "created is false when an idempotency key found an earlier run, and for abort, heartbeat "
        "and finish"
    )
)
class RunPayload:
    run: Run | None
    created: bool
    errors: list[UserError]


def as_run(row: RunRow | None) -> Run | None:
    """Show a row: rows are the objects, the types above only say what may be seen of them."""
    return cast("Run | None", row)
