"""Lists of runs: the filter as clients give it, and one page of a list as a connection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import strawberry

from nomaflow.store import history
from nomaflow.store.history import Order, RunFilter, RunRow
from nomaflow_api.context import ABSENT
from nomaflow_api.graph import cursors
from nomaflow_api.graph.cursors import Connection
from nomaflow_api.graph.enums import RunKind, RunStatus

if TYPE_CHECKING:
    from strawberry.types.info import Info

    from nomaflow_api.context import Context
    from nomaflow_api.graph.runs import RunConnection


@strawberry.input(
    name="RunFilter",
    description=(
        "since and until bound queuedAt; tags and app are those of the job now; "
        "triggeredBy is the whole word or what stands before its colon, as `cli`; "
        "source, destination and stale are those of outside runs"
    ),
)
class RunFilterInput:
    jobs: list[str] | None = ABSENT
    app: str | None = ABSENT
    tags: list[str] | None = ABSENT
    status: list[RunStatus] | None = ABSENT
    kind: RunKind | None = ABSENT
    triggered_by: str | None = ABSENT
    since: datetime | None = ABSENT
    until: datetime | None = ABSENT
    source: str | None = ABSENT
    destination: str | None = ABSENT
    stale: bool | None = ABSENT

    def as_filter(self) -> RunFilter:
        """Return it in the words of the store."""
        return RunFilter(
            jobs=self.jobs or None,
            app=self.app or None,
            tags=self.tags or None,
            status=[s.value for s in self.status] if self.status else None,
            kind=self.kind.value if self.kind else None,
            triggered_by=self.triggered_by or None,
            since=self.since or None,
            until=self.until or None,
            source=self.source or None,
            destination=self.destination or None,
            stale=None if self.stale is ABSENT else self.stale,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The arguments of a connection, as they came."""

    first: int | None
    after: str | None = None
    last: int | None = None
    before: str | None = None


def of_job(wanted: RunFilter, name: str) -> RunFilter:
    """Narrow a filter to one job, whatever jobs it names."""
    return replace(wanted, jobs=[name])


async def connection(
    info: Info[Context, Any], wanted: RunFilter, asked: Asked, order: Order
) -> RunConnection:
    """Read one page; the whole list is counted only if someone looks at totalCount."""
    kind = order.name.lower()

    def read(text: str) -> tuple[datetime, UUID]:
        return cursors.time_of(kind, text)

    def cursor(run: RunRow) -> str:
        return cursors.of_time(kind, *order.key(run))

    window = cursors.window(
        first=asked.first,
        after=asked.after or None,
        last=None if asked.last is ABSENT else asked.last,
        before=asked.before or None,
        read=read,
    )
    db = info.context.db
    page = await history.page(db, wanted, window, order)
    await info.context.load.ahead_of_runs(page.rows, info)
    found = Connection(
        nodes=page.rows,
        page=page,
        window=window,
        cursor=cursor,
        count=lambda: history.count(db, wanted, order),
    )
    return cast("RunConnection", found)
