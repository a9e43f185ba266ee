"""What happened in a run as the graph shows it: events, log lines, progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, cast

import strawberry

from nomaflow import events
from nomaflow.store import feed
from nomaflow.store.feed import LineFilter
from nomaflow_api.context import ABSENT, Asked
from nomaflow_api.doors.failures import bad_input
from nomaflow_api.graph import cursors
from nomaflow_api.graph.base import PageInfo, global_id
from nomaflow_api.graph.cursors import PageFacts
from nomaflow_api.graph.enums import LogLevel, RunStatus, StepStatus
from nomaflow_api.graph.scalars import BigInt, Cursor

if TYPE_CHECKING:
    from nomaflow.store.history import RunRow
    from nomaflow_api.graph.runs import Run
    from nomaflow_api.graph.steps import StepRun


@strawberry.type
class Progress:
    done: BigInt
    total: BigInt | None
    fraction: float | None
    unit: str
    message: str | None
    batch: int | None
    batches: int | None
    percent: float | None
    last: bool | None

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> Progress | None:
        """Show what a step told of itself; what it did not tell is null."""
        if not stored:
            return None
        done, total = stored.get("done") or 0, stored.get("total")
        return cls(
            done=BigInt(int(done)),
            total=None if total is None else BigInt(int(total)),
            fraction=min(done / total, 1.0) if total else None,
            unit=stored.get("unit") or "rows",
            message=stored.get("message"),
            batch=stored.get("batch"),
            batches=stored.get("batches"),
            percent=stored.get("percent"),
            last=stored.get("last"),
        )


def _cursor(root: events.Event | events.LogLine) -> Cursor:
    return Cursor(cursors.of_seq(root.seq))


@strawberry.type
class LogLine:
    cursor: Cursor = strawberry.field(resolver=_cursor)
    seq: int
    at: datetime
    level: LogLevel
    step: str | None
    message: str


def _run_id(root: events.Event) -> strawberry.ID:
    return global_id("Run", root.run_id)


@strawberry.interface
class RunEvent:
    cursor: Cursor = strawberry.field(resolver=_cursor)
    at: datetime
    run_id: strawberry.ID = strawberry.field(resolver=_run_id)


def _run(
    root: events.RunChanged, info: Asked
) -> Annotated[Run, strawberry.lazy("nomaflow_api.graph.runs")]:
    return cast("Run", info.context.load.runs.get(root.run_id))


@strawberry.type
class RunChanged(RunEvent):
    status: RunStatus
    reason: str | None
    run: Annotated[Run, strawberry.lazy("nomaflow_api.graph.runs")] = strawberry.field(
        resolver=_run
    )

    @classmethod
    def is_type_of(cls, obj: Any, _info: Any) -> bool:
        """Say which events this type shows."""
        return isinstance(obj, events.RunChanged)


def _step_run(
    root: events.StepChanged, info: Asked
) -> Annotated[StepRun, strawberry.lazy("nomaflow_api.graph.steps")]:
    return cast("StepRun", info.context.load.step.get((root.run_id, root.position)))


@strawberry.type
class StepChanged(RunEvent):
    step: str
    position: int
    status: StepStatus
    attempt: int
    step_run: Annotated[StepRun, strawberry.lazy("nomaflow_api.graph.steps")] = strawberry.field(
        resolver=_step_run
    )

    @classmethod
    def is_type_of(cls, obj: Any, _info: Any) -> bool:
        """Say which events this type shows."""
        return isinstance(obj, events.StepChanged)


def _progress(root: events.StepProgressed) -> Progress:
    return cast("Progress", Progress.of(root.progress or {"done": 0}))


@strawberry.type
class StepProgressed(RunEvent):
    step: str
    progress: Progress = strawberry.field(resolver=_progress)

    @classmethod
    def is_type_of(cls, obj: Any, _info: Any) -> bool:
        """Say which events this type shows."""
        return isinstance(obj, events.StepProgressed)


@strawberry.type
class LogsWritten(RunEvent):
    lines: list[LogLine]

    @classmethod
    def is_type_of(cls, obj: Any, _info: Any) -> bool:
        """Say which events this type shows."""
        return isinstance(obj, events.LogsWritten)


EVENT_TYPES = (RunChanged, StepChanged, StepProgressed, LogsWritten)


@strawberry.type
class RunEventConnection:
    nodes: list[RunEvent]
    page_info: PageInfo
    end_cursor: Cursor = strawberry.field(description="Give to runEvents(after:) to go on live")


@strawberry.type
class LogConnection:
    nodes: list[LogLine]
    page_info: PageInfo
    end_cursor: Cursor = strawberry.field(description="Give to runLogs(after:) to go on live")


@strawberry.input
class LogFilter:
    step: str | None = ABSENT
    min_level: LogLevel | None = ABSENT
    text: str | None = ABSENT

    def as_filter(self) -> LineFilter:
        """Return it in the words of the store."""
        return LineFilter(
            step=self.step or None,
            min_level=self.min_level.value if self.min_level else None,
            text=self.text or None,
        )


@dataclass(frozen=True, slots=True)
class _FeedPage:
    nodes: list[Any]
    page_info: PageFacts
    end_cursor: str


def _seq_key(text: str) -> tuple[int]:
    seq = cursors.seq_of(text)
    if seq is None:
        raise bad_input("A cursor must not be empty.")
    return (seq,)


async def run_events(
    root: RunRow, info: Asked, first: int | None = 100, after: Cursor | None = ABSENT
) -> RunEventConnection:
    """Read what happened in a run; lines that follow each other come as one LogsWritten."""
    asked = cursors.window(first=first, after=after or None, read=_seq_key)
    start = asked.after[0] if asked.after else 0
    reading = await feed.read(info.context.db, root.id, start)
    found = reading.events[: asked.size] if reading else []
    whole = reading is not None and len(found) == len(reading.events)
    end = reading.seq if reading and whole else (found[-1].seq if found else start)
    facts = PageFacts(
        has_next_page=not (whole and reading and reading.is_complete),
        has_previous_page=start > 0,
        start_cursor=cursors.of_seq(found[0].seq) if found else None,
        end_cursor=cursors.of_seq(found[-1].seq) if found else None,
    )
    return cast("RunEventConnection", _FeedPage(found, facts, cursors.of_seq(end)))


async def run_logs(
    root: RunRow,
    info: Asked,
    first: int | None = 200,
    after: Cursor | None = ABSENT,
    last: int | None = ABSENT,
    before: Cursor | None = ABSENT,
    filter: LogFilter | None = ABSENT,
) -> LogConnection:
    """Read a page of a run's log."""
    asked = cursors.window(
        first=first,
        after=after or None,
        last=None if last is ABSENT else last,
        before=before or None,
        read=_seq_key,
        largest=cursors.LARGEST_LOG_PAGE,
    )
    wanted = filter.as_filter() if filter else LineFilter()
    found = await feed.lines(info.context.db, root.id, wanted, asked)
    facts = cursors.page_facts(found.page, asked, lambda line: cursors.of_seq(line.seq))
    return cast("LogConnection", _FeedPage(found.page.rows, facts, cursors.of_seq(found.seq)))
