"""A step of a run as the graph shows it, with its tries and what they failed of."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import strawberry

from nomaflow.store.history import RunRow
from nomaflow.store.step_history import AttemptRow, StepRow
from nomaflow_api.context import Asked
from nomaflow_api.graph.base import Node, global_id
from nomaflow_api.graph.enums import StepStatus
from nomaflow_api.graph.feed import Progress
from nomaflow_api.graph.scalars import BigInt, Json


def seconds(started: datetime | None, finished: datetime | None) -> float | None:
    """How long something took; None while it has not ended."""
    return (finished - started).total_seconds() if started and finished else None


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
    return seconds(root.started_at, root.finished_at)


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
