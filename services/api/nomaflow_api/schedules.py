"""Clocks before they exist: when an expression would fire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import strawberry

from nomaflow import schedule
from nomaflow.errors import Code, NomaflowError
from nomaflow_api import cursors
from nomaflow_api.context import ABSENT
from nomaflow_api.graph_jobs import fires


@strawberry.type
class SchedulePreview:
    fires: list[datetime]
    description: str | None
    error: str | None


def _described(cron: str | None, every_seconds: float | None, timezone: str) -> str:
    schedule.zone(timezone)
    if (cron is None) == (every_seconds is None):
        raise NomaflowError(Code.INVALID, "give `cron` or `everySeconds`, one of the two")
    if cron is not None:
        return schedule.parse(cron).describe()
    return f"Every {timedelta(seconds=schedule.every_seconds(every_seconds or 0))}"


def _preview(
    *,
    cron: str | None = ABSENT,
    every_seconds: float | None = ABSENT,
    timezone: str | None = "UTC",
    first: int | None = 3,
    after: datetime | None = ABSENT,
) -> SchedulePreview:
    size = cursors.window(first=first, after=None, read=tuple).size
    expression = cron or None
    seconds = None if every_seconds is ABSENT else every_seconds
    try:
        zone = timezone or "UTC"
        words = _described(expression, seconds, zone)
        coming = fires(expression, seconds, zone, size, after=after or datetime.now(UTC))
    except NomaflowError as error:
        return SchedulePreview(fires=[], description=None, error=error.message)
    return SchedulePreview(fires=coming, description=words, error=None)


@strawberry.type
class ScheduleQueries:
    schedule_preview: SchedulePreview = strawberry.field(resolver=_preview)
