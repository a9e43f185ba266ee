"""A run as the graph shows it, with its steps."""

from __future__ import annotations

from datetime import datetime
from inspect import isawaitable
from typing import TYPE_CHECKING, Annotated, Any, cast

import strawberry

from nomaflow.store.history import RunRow
from nomaflow_api import waiting
from nomaflow_api.context import Asked
from nomaflow_api.graph import cursors
from nomaflow_api.graph.base import Node, PageInfo, UserError, global_id
from nomaflow_api.graph.enums import LogLevel, Permission, RunKind, RunStatus
from nomaflow_api.graph.feed import LogConnection, RunEventConnection, run_events, run_logs
from nomaflow_api.graph.scalars import BigInt, Json
from nomaflow_api.graph.steps import Failure, StepRun, failure_of, seconds
from nomaflow_api.graph.sync import FailedBatchConnection, SyncResult, batches_of_run, sync_of_run

if TYPE_CHECKING:
    from nomaflow_api.graph.jobs import Job


def _run_id(root: RunRow) -> strawberry.ID:
    return global_id("Run", root.id)


def _job(
    root: RunRow, info: Asked
) -> Annotated[Job, strawberry.lazy("nomaflow_api.graph.jobs")] | None:
    if root.job_id is None:
        return None
    return cast("Job | None", info.context.load.jobs.get(root.job_id))


def _run_seconds(root: RunRow) -> float | None:
    return seconds(root.started_at, root.finished_at)


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
    job: Annotated[Job, strawberry.lazy("nomaflow_api.graph.jobs")] | None = strawberry.field(
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
        resolver=_params,
        description="The merged parameters it actually used; a `${...}` in one is replaced "
        "for each step, whose `input` shows the value",
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
