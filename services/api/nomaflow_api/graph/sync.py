"""What syncs leave behind as the graph shows it: results, watermarks, failed batches."""

from __future__ import annotations

from datetime import datetime
from inspect import isawaitable
from typing import TYPE_CHECKING, Annotated, Any, cast
from uuid import UUID

import strawberry

from nomaflow.store import failed_batches
from nomaflow.store.failed_batches import FailedBatchRow, Wanted
from nomaflow.store.watermarks import WatermarkRow
from nomaflow_api.context import ABSENT, Asked
from nomaflow_api.doors.failures import bad_input
from nomaflow_api.graph import cursors
from nomaflow_api.graph.base import PageInfo, UserError, global_id
from nomaflow_api.graph.scalars import BigInt, Json

if TYPE_CHECKING:
    from nomaflow.store.history import RunRow
    from nomaflow.store.jobs import JobRow
    from nomaflow_api.graph.runs import Run

_CURSOR = "failed-batch"


@strawberry.type(description="What the syncs of a run did, added up; null while none has ended")
class SyncResult:
    records: BigInt
    pages: int
    batches: int
    inserted: BigInt
    updated: BigInt
    error_count: int = strawberry.field(
        description="Batches that could not be written, pages that could not be fetched, and"
        " what stopped a step that failed"
    )
    errors: Json = strawberry.field(
        description="[{page, batch, error, at}], the first 100 per step, and what stopped it"
    )
    duration_seconds: float
    completed_at: datetime | None = strawberry.field(
        description="Null when one of them was aborted: its figures are those of its last page"
    )


async def sync_of_run(root: RunRow, info: Asked) -> SyncResult | None:
    """Show what the run's http_sync steps did."""
    found: Any = info.context.load.syncs.get(root.id)
    if isawaitable(found):
        found = await found
    if found is None:
        return None
    completed = found["completed_at"]
    return SyncResult(
        records=BigInt(found["records"]),
        pages=found["pages"],
        batches=found["batches"],
        inserted=BigInt(found["inserted"]),
        updated=BigInt(found["updated"]),
        error_count=found["failed_batches"],
        errors=Json(found["errors"]),
        duration_seconds=found["duration_seconds"],
        completed_at=datetime.fromisoformat(completed) if completed else None,
    )


def _moved_by(
    root: WatermarkRow, info: Asked
) -> Annotated[Run, strawberry.lazy("nomaflow_api.graph.runs")] | None:
    if root.run_id is None:
        return None
    return cast("Run | None", info.context.load.runs.get(root.run_id))


@strawberry.type
class Watermark:
    name: str
    value: str
    updated_at: datetime
    run: Annotated[Run, strawberry.lazy("nomaflow_api.graph.runs")] | None = strawberry.field(
        resolver=_moved_by, description="The run that moved it; null when a person set it"
    )


def watermarks_of_job(root: JobRow, info: Asked) -> list[Watermark]:
    """Show how far the job has come."""
    return cast("list[Watermark]", info.context.load.watermarks.get(root.name))


def _id(root: FailedBatchRow) -> strawberry.ID:
    return global_id("FailedBatch", root.id)


async def _payload(root: FailedBatchRow, info: Asked) -> Json:
    return Json(await info.context.load.payloads.find(root.id))


def _request(root: FailedBatchRow) -> Json | None:
    return None if root.request is None else Json(root.request)


@strawberry.type
class FailedBatch:
    id: strawberry.ID = strawberry.field(resolver=_id)
    step: str
    page: int | None
    batch: int
    items: int
    error: str
    attempts: int = strawberry.field(description="Tries to write it, the sync's own included")
    status: str = strawberry.field(
        description="pending: waits for a retry; failed: its newest retry failed; done: written"
    )
    created_at: datetime
    payload: Json = strawberry.field(resolver=_payload, description="The items, secrets masked")
    request: Json | None = strawberry.field(
        resolver=_request,
        description="Of a page that could not be fetched, which has no items: what to ask again",
    )


async def _count(root: cursors.Connection[FailedBatchRow]) -> int:
    return cast("int", await root.count())


@strawberry.type
class FailedBatchConnection:
    nodes: list[FailedBatch]
    page_info: PageInfo
    total_count: int = strawberry.field(resolver=_count)


async def batches_of_run(
    root: RunRow,
    info: Asked,
    first: int | None = 20,
    after: str | None = ABSENT,
    status: str | None = ABSENT,
) -> FailedBatchConnection:
    """List the batches that failed in a run, or that it retries."""
    return await _batches(info, Wanted(run_id=root.id, status=_status(status)), first, after)


async def batches_of_job(
    root: JobRow,
    info: Asked,
    first: int | None = 20,
    after: str | None = ABSENT,
    status: str | None = ABSENT,
) -> FailedBatchConnection:
    """List the failed batches of all runs of a job."""
    return await _batches(info, Wanted(job=root.name, status=_status(status)), first, after)


def _status(word: str | None) -> str | None:
    if not word:
        return None
    if word.lower() not in failed_batches.STATUSES:
        known = ", ".join(failed_batches.STATUSES)
        raise bad_input(f"`status` of a failed batch is one of {known}, not {word[:40]!r}.")
    return word.lower()


async def _batches(
    info: Asked, wanted: Wanted, first: int | None, after: str | None
) -> FailedBatchConnection:
    db = info.context.db
    asked = cursors.window(first=first, after=after or None, read=_read)
    page = await failed_batches.page(db, wanted, asked)
    found: Any = cursors.Connection(
        nodes=page.rows,
        page=page,
        window=asked,
        cursor=lambda row: cursors.encode(_CURSOR, str(row.id)),
        count=lambda: failed_batches.count(db, wanted),
    )
    return cast("FailedBatchConnection", found)


def _read(text: str) -> tuple[UUID]:
    match cursors.decode(_CURSOR, text):
        case [str(value)]:
            try:
                return (UUID(value),)
            except ValueError:
                pass
    raise cursors.bad_cursor()


@strawberry.type(description="run is null and retried 0 when there was nothing to retry")
class FailedBatchRetryPayload:
    run: Annotated[Run, strawberry.lazy("nomaflow_api.graph.runs")] | None = strawberry.field(
        description="The first of `runs`"
    )
    runs: list[Annotated[Run, strawberry.lazy("nomaflow_api.graph.runs")]] = strawberry.field(
        description="One for each failed run, in the order in which they take their turns"
    )
    retried: int
    errors: list[UserError]
