"""Time as queries show it: due times behind, fires ahead, what closes them, and previews."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import strawberry

from nomaflow.clock import forecast, schedule
from nomaflow.clock.forecast import Clock, Closures
from nomaflow.errors import Code, NomaflowError
from nomaflow.in_force import horizon
from nomaflow.store import closures, job_pages, slots
from nomaflow.store.slots import SlotFilter, SlotRow
from nomaflow_api.auth import Permission
from nomaflow_api.context import ABSENT, Asked
from nomaflow_api.doors.failures import bad_input
from nomaflow_api.graph import cursors
from nomaflow_api.graph.base import PageInfo
from nomaflow_api.graph.clocks import (
    Blackout,
    PlannedFire,
    PlannedFireConnection,
    SchedulePreview,
    Slot,
    SlotConnection,
    described,
    fires,
)
from nomaflow_api.graph.scalars import Json

if TYPE_CHECKING:
    from nomaflow.clock.forecast import Shown

_SLOT = "slot"
_FIRE = "planned-fire"
MOST_NAMES = 1_000
LONGEST_AHEAD = timedelta(days=92)

Position = tuple[datetime, str, str]


def _position(text: str) -> Position:
    match cursors.decode(_FIRE, text):
        case [str(at), str(job), str(name)]:
            try:
                return datetime.fromisoformat(at).astimezone(UTC), job, name
            except (ValueError, OverflowError):
                pass
    raise cursors.bad_cursor()


def _cursor(shown: Shown) -> str:
    planned = shown.planned
    return cursors.encode(_FIRE, planned.at.isoformat(), planned.job, planned.schedule)


def _span(since: datetime, until: datetime) -> None:
    if until <= since:
        raise bad_input("`until` must be later than `since`.")


def _names(jobs: list[str] | None) -> list[str] | None:
    if jobs and len(jobs) > MOST_NAMES:
        raise bad_input(f"`jobs` may name at most {MOST_NAMES} jobs, not {len(jobs)}.")
    return jobs or None


async def _slots(
    info: Asked,
    since: datetime,
    until: datetime,
    jobs: list[str] | None = ABSENT,
    outcomes: list[str] | None = ABSENT,
    first: int | None = 100,
    after: str | None = ABSENT,
    last: int | None = ABSENT,
    before: str | None = ABSENT,
) -> SlotConnection:
    info.context.need(Permission.SEE)
    _span(since, until)
    asked = cursors.window(
        first=first,
        after=after or None,
        last=None if last is ABSENT else last,
        before=before or None,
        read=lambda text: cursors.time_of(_SLOT, text),
    )
    unknown = [word for word in outcomes or () if word not in slots.OUTCOMES]
    if unknown:
        raise bad_input(
            f"`{unknown[0][:40]}` is no outcome; there are {', '.join(slots.OUTCOMES)}."
        )
    wanted = SlotFilter(
        since=since, until=until, jobs=_names(jobs), outcomes=list(outcomes or ()) or None
    )
    page = await slots.page(info.context.db, wanted, asked)
    await info.context.load.ahead_of_slots(page.rows, info)

    def cursor(row: SlotRow) -> str:
        return cursors.of_time(_SLOT, row.due_at, row.schedule_id)

    facts = cursors.page_facts(page, asked, cursor)
    return SlotConnection(nodes=cast("list[Slot]", page.rows), page_info=cast("PageInfo", facts))


async def _calendar(
    info: Asked,
    since: datetime,
    until: datetime,
    jobs: list[str] | None = ABSENT,
    include_closed: bool | None = False,  # noqa: FBT001, FBT002  an argument of the graph
    first: int | None = 500,
    after: str | None = ABSENT,
) -> PlannedFireConnection:
    info.context.need(Permission.SEE)
    _span(since, until)
    if until - since > LONGEST_AHEAD:
        raise bad_input(f"A calendar shows at most {LONGEST_AHEAD.days} days; ask piece by piece.")
    asked = cursors.window(
        first=first,
        after=after or None,
        read=_position,
        largest=cursors.LARGEST_LOG_PAGE,
    )
    db, moment = info.context.db, datetime.now(UTC)
    sky = await horizon.closed(db, moment)
    outlines = await job_pages.outlines(db, _names(jobs))
    clocks = await horizon.clocks(db, sky, outlines)
    earliest = moment - horizon.GRACE
    begin = max(since, earliest)
    position = cast("Position | None", asked.after)

    def read() -> list[Shown]:
        start = begin if position is None else max(begin, position[0].replace(microsecond=0))
        closed = bool(include_closed)
        ahead = forecast.calendar(clocks, sky, start, until, with_closed=closed, now=earliest)
        return list(islice((one for one in ahead if _is_after(one, position)), asked.size + 1))

    shown = await asyncio.to_thread(read)
    page, more = shown[: asked.size], len(shown) > asked.size
    tags = {job.name: next(iter(job.tags), None) for job in outlines.values()}
    zones = {(clock.job, clock.name): clock.timezone for clock in clocks}
    return PlannedFireConnection(
        nodes=[_planned(one, tags, zones) for one in page],
        page_info=PageInfo(
            has_next_page=more,
            has_previous_page=position is not None,
            start_cursor=_cursor(page[0]) if page else None,
            end_cursor=_cursor(page[-1]) if page else None,
        ),
    )


def _is_after(shown: Shown, position: Position | None) -> bool:
    planned = shown.planned
    return position is None or (planned.at, planned.job, planned.schedule) > position


def _planned(
    shown: Shown, tags: dict[str, str | None], zones: dict[tuple[str, str], str]
) -> PlannedFire:
    planned = shown.planned
    return PlannedFire(
        at=planned.at,
        due_at=planned.due_at,
        job=planned.job,
        schedule=planned.schedule,
        timezone=zones[planned.job, planned.schedule],
        tag=tags[planned.job],
        collides=shown.collides,
        closed=planned.closed,
    )


async def _preview(
    cron: str | None = ABSENT,
    every_seconds: float | None = ABSENT,
    timezone: str | None = "UTC",
    first: int | None = 3,
    after: datetime | None = ABSENT,
) -> SchedulePreview:
    size = cursors.window(first=first, after=None, read=tuple).size
    expression, seconds = cron or None, None if every_seconds is ABSENT else every_seconds
    start, zone = after or datetime.now(UTC), timezone or "UTC"
    try:
        words = _checked(expression, seconds, zone)
        clock = Clock(
            job="",
            name="",
            cron=expression,
            every_seconds=seconds,
            timezone=zone,
            next_due=None if seconds is None else start + timedelta(seconds=seconds),
        )
        coming, remarks = await asyncio.to_thread(_foreseen, clock, size, start)
    except NomaflowError as error:
        return SchedulePreview(fires=[], description=None, error=error.message, remarks=[])
    except OverflowError:
        return SchedulePreview(
            fires=[], description=None, error="`after` is at the end of all time", remarks=[]
        )
    return SchedulePreview(
        fires=coming, description=words, error=None, remarks=[said for said in remarks if said]
    )


def _foreseen(clock: Clock, size: int, start: datetime) -> tuple[list[datetime], list[str | None]]:
    """Work out a preview; years may lie between two fires, so others should not wait for it."""
    coming, cron = fires(clock, Closures(), size, start), clock.cron
    return coming, [schedule.parse(cron).remark(at, clock.timezone) for at in coming if cron]


def _checked(cron: str | None, every_seconds: float | None, timezone: str) -> str:
    schedule.zone(timezone)
    if (cron is None) == (every_seconds is None):
        raise NomaflowError(Code.INVALID, "give `cron` or `everySeconds`, one of the two")
    if every_seconds is not None:
        schedule.every_seconds(every_seconds)
    return described(cron, every_seconds)


async def _calendars(info: Asked) -> Json:
    info.context.need(Permission.SEE)
    return Json(await closures.calendars(info.context.db))


async def _blackouts(info: Asked) -> list[Blackout]:
    info.context.need(Permission.SEE)
    found: Any = await closures.blackouts(info.context.db, since=datetime.now(UTC))
    return cast("list[Blackout]", found)


@strawberry.type
class ScheduleQueries:
    slots: SlotConnection = strawberry.field(
        resolver=_slots,
        description="What became of each due time, in order: the one place that says why something "
        "did not run",
    )
    calendar: PlannedFireConnection = strawberry.field(
        resolver=_calendar,
        description="Coming fires of every enabled schedule in a window, with the ones that "
        "collide: those that begin at the same second. Closed times are left out unless asked "
        "for. Whether a run finds its job busy or a dependency unmet cannot be foreseen.",
    )
    schedule_preview: SchedulePreview = strawberry.field(resolver=_preview)
    calendars: Json = strawberry.field(
        resolver=_calendars,
        description="The calendars in force by name, with the days of their iCalendar files",
    )
    blackouts: list[Blackout] = strawberry.field(
        resolver=_blackouts, description="Those that are in force and those to come"
    )
