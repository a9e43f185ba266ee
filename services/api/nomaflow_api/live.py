"""Subscriptions: a run's feed from a cursor to its end, and what changes among runs and jobs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, cast
from uuid import UUID

import strawberry

from nomaflow.events import LogsWritten
from nomaflow.store import history, job_pages
from nomaflow.store.feed import LineFilter
from nomaflow.store.history import RunFilter
from nomaflow_api.auth import Permission
from nomaflow_api.context import ABSENT, Asked
from nomaflow_api.doors.failures import bad_input
from nomaflow_api.graph import cursors
from nomaflow_api.graph.base import uuid_of
from nomaflow_api.graph.enums import RunStatus
from nomaflow_api.graph.feed import LogFilter, LogLine, RunEvent
from nomaflow_api.graph.jobs import Job, as_job
from nomaflow_api.graph.runs import Run, as_run
from nomaflow_api.graph.scalars import Cursor

if TYPE_CHECKING:
    from nomaflow_api.context import Context

SNAPSHOT = 500


@strawberry.type
class LogBatch:
    lines: list[LogLine]
    cursor: Cursor


@strawberry.type
class RunsChange:
    snapshot: list[Run] | None = None
    run: Run | None = None


@strawberry.type
class JobsChange:
    name: str
    change: str = strawberry.field(
        description="snapshot | created | edited | enabled | disabled | deleted"
    )
    job: Job | None


@strawberry.input
class LiveFilter:
    jobs: list[str] | None = ABSENT
    app: str | None = ABSENT
    tags: list[str] | None = ABSENT
    status: list[RunStatus] | None = ABSENT

    def as_filter(self) -> RunFilter:
        """Return it in the words of the store."""
        return RunFilter(
            jobs=self.jobs or None,
            app=self.app or None,
            tags=self.tags or None,
            status=[s.value for s in self.status] if self.status else None,
        )


async def _known(context: Context, text: str) -> UUID:
    """Read the id of a run that is there; the same refusal for one that is not or not yours."""
    context.need(Permission.SEE)
    run_id = uuid_of("Run", text)
    if await context.load.runs.find(run_id) is None:
        raise bad_input("There is no such run.")
    return run_id


async def _run_events(
    info: Asked, run: strawberry.ID, after: Cursor | None = ABSENT
) -> AsyncGenerator[RunEvent, None]:
    run_id = await _known(info.context, run)
    seq = cursors.seq_of(after or None) or 0
    async with aclosing(info.context.backing.feeds.events(run_id, seq)) as events:
        async for event in events:
            yield cast("RunEvent", event)


async def _run_logs(
    info: Asked,
    run: strawberry.ID,
    after: Cursor | None = ABSENT,
    filter: LogFilter | None = ABSENT,
) -> AsyncGenerator[LogBatch, None]:
    run_id = await _known(info.context, run)
    wanted = filter.as_filter() if filter else LineFilter()
    seq = cursors.seq_of(after or None) or 0
    async with aclosing(info.context.backing.feeds.events(run_id, seq)) as events:
        async for event in events:
            if not isinstance(event, LogsWritten):
                continue
            lines = [line for line in event.lines if wanted.admits(line)]
            if lines:
                cursor = Cursor(cursors.of_seq(event.seq))
                yield LogBatch(lines=cast("list[LogLine]", lines), cursor=cursor)


async def _runs_changed(
    info: Asked,
    filter: LiveFilter | None = ABSENT,
) -> AsyncGenerator[RunsChange, None]:
    context = info.context
    context.need(Permission.SEE)
    wanted = filter.as_filter() if filter else RunFilter()
    async with aclosing(context.backing.run_board.changes()) as batches:
        async for batch in batches:
            if batch is None:
                rows = await history.all_in_flight(context.db, wanted, SNAPSHOT)
                yield RunsChange(snapshot=cast("list[Run]", rows))
                continue
            ids = list(dict.fromkeys(change.key for change in batch))
            for row in await history.matching(context.db, ids, wanted):
                yield RunsChange(run=as_run(row))


async def _jobs_changed(info: Asked) -> AsyncGenerator[JobsChange, None]:
    context = info.context
    context.need(Permission.SEE)
    async with aclosing(context.backing.job_board.changes()) as batches:
        async for batch in batches:
            if batch is None:
                for row in await job_pages.definitions(context.db):
                    yield JobsChange(name=row.name, change="snapshot", job=as_job(row))
                continue
            found = await job_pages.by_name(context.db, [c.key for c in batch])
            for change in batch:
                job = as_job(found.get(change.key))
                yield JobsChange(name=change.key, change=change.word, job=job)


@strawberry.type
class Subscription:
    run_events: AsyncGenerator[RunEvent, None] = strawberry.subscription(
        resolver=_run_events,
        description=(
            "Everything of one run: status, steps, progress, log lines. "
            "Ends after the run's last event."
        ),
    )
    run_logs: AsyncGenerator[LogBatch, None] = strawberry.subscription(
        resolver=_run_logs,
        description=(
            "Only the log lines, in batches. "
            "Ends when the run has ended and its last line was sent."
        ),
    )
    runs_changed: AsyncGenerator[RunsChange, None] = strawberry.subscription(
        resolver=_runs_changed,
        description=(
            "The in-flight panel: a snapshot first, then changes of any run of any job. "
            "A listener that fell far behind gets another snapshot."
        ),
    )
    jobs_changed: AsyncGenerator[JobsChange, None] = strawberry.subscription(
        resolver=_jobs_changed,
        description="Jobs created, edited, enabled, deleted; first a word for each that is there",
    )
