"""What clocks will really do: their due times ahead, shifted by jitter, less what is closed.

It cannot foresee what depends on runs: a due time that finds its job busy, or a dependency unmet,
is shown and will be skipped.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby

from nomaflow.clock import schedule
from nomaflow.clock.calendars import Action, Blackout, Calendar

MOST_JUMPS = 200
"""Closed stretches that are leapt over in search of one fire; closed days in a row are one."""

MOST_COUNTED = 10_000
"""A clock that may fire more often than this is not followed to its last fire."""

_SECOND = timedelta(seconds=1)
_TINY = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """What of a clock and its job decides about its fires; `next_due` None: it stands still."""

    job: str
    name: str
    cron: str | None = None
    every_seconds: float | None = None
    timezone: str = "UTC"
    next_due: datetime | None = None
    jitter: timedelta = timedelta(0)
    fires_left: int | None = None
    calendar: str | None = None
    connectors: tuple[str, ...] = ()
    paused_until: datetime | None = None

    def after(self, instant: datetime) -> datetime | None:
        """Return its first due time strictly after an instant."""
        if self.cron is not None:
            return _next_cron(self.cron, self.timezone, instant)
        if self.every_seconds is None or self.next_due is None:
            return None
        try:
            return schedule.next_interval(self.next_due, self.every_seconds, instant)
        except OverflowError:
            return None


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a due time will not fire then, and from when on it is worth looking again.

    `fires_at` is set when it is only postponed; no `until`: nobody knows.
    """

    reason: str
    until: datetime | None
    fires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Closures:
    """Everything that closes clocks; a calendar that a job names and nobody declares is open."""

    calendars: Mapping[str, Calendar] = field(default_factory=dict)
    blackouts: tuple[Blackout, ...] = ()
    paused_by: str | None = None
    """Who paused the whole scheduler, if it is paused."""
    postponed: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    """When due times that wait already for a blackout's end will fire, by job and schedule."""

    def of(self, clock: Clock, due_at: datetime) -> Closed | None:
        """Say what closes a due time; None when it may fire."""
        if self.paused_by is not None:
            return Closed(f"paused: the whole scheduler was paused by {self.paused_by}", None)
        if clock.paused_until is not None and due_at < clock.paused_until:
            reason = f"paused: the job is paused until {shown(clock.paused_until)}"
            return Closed(reason, clock.paused_until)
        calendar = self.calendars.get(clock.calendar or "")
        if calendar is not None:
            place = schedule.zone(clock.timezone)
            local = due_at.astimezone(place)
            if why := calendar.closed(local):
                opens = calendar.closed_until(local.replace(tzinfo=None, fold=0))
                until = opens.replace(tzinfo=place).astimezone(UTC)
                return Closed(f"calendar: {clock.calendar} is {why}", until)
        return self._blackout(clock, due_at)

    def _blackout(self, clock: Clock, due_at: datetime) -> Closed | None:
        concerned = [b for b in self.blackouts if b.concerns(clock.job, clock.connectors)]
        # A jitter may carry a fire into a blackout that its due time is still outside of.
        first = _over(concerned, due_at) or _over(concerned, due_at + clock.jitter)
        if first is None:
            return None
        reason = f"blackout: {first.name} until {shown(first.until)}"
        if first.action is Action.SKIP:
            return Closed(reason, first.until)
        at, over = first.until, _over(concerned, first.until)
        while over is not None and over.action is Action.POSTPONE:
            at, over = over.until, _over(concerned, over.until)
        return Closed(reason, first.until, None if over else at)


def _over(blackouts: Iterable[Blackout], at: datetime) -> Blackout | None:
    """Return the blackout that decides at an instant: one that skips, else the first to end."""
    there = [blackout for blackout in blackouts if blackout.from_at <= at < blackout.until]
    return min(there, key=lambda b: (b.action is not Action.SKIP, b.until), default=None)


@dataclass(frozen=True, slots=True, order=True)
class Planned:
    """A fire ahead; `closed` says why it will not be one. A postponed one has its new time."""

    at: datetime
    job: str
    schedule: str
    due_at: datetime
    closed: str | None = None


def fires(
    clock: Clock,
    closures: Closures,
    since: datetime,
    until: datetime | None = None,
    *,
    with_closed: bool = False,
    now: datetime | None = None,
) -> Iterator[Planned]:
    """Yield a clock's fires from `since` to before `until`, in order; without end if it is None.

    With `now`, those between it and `since` count for a clock that may fire only so many times.
    """
    few = clock.fires_left is not None and clock.fires_left <= MOST_COUNTED
    begin = min(since, now) if few and now is not None else since
    for planned in _until_the_end_of_time(
        _unbounded(clock, closures, begin, until, with_closed=with_closed)
    ):
        if until is not None and planned.at >= until:
            return
        if planned.at >= since:
            yield planned
        if planned.closed is None and clock.fires_left is not None:
            clock = replace(clock, fires_left=clock.fires_left - 1)
        if clock.fires_left == 0:
            return


def _until_the_end_of_time(planned: Iterator[Planned]) -> Iterator[Planned]:
    """Stop where the calendar of the machine does, at the end of the year 9999."""
    with contextlib.suppress(OverflowError):
        yield from planned


def _unbounded(
    clock: Clock,
    closures: Closures,
    since: datetime,
    until: datetime | None,
    *,
    with_closed: bool,
) -> Iterator[Planned]:
    postponed = closures.postponed.get((clock.job, clock.name))
    due_at, jumps = _first(clock, since), 0
    while due_at is not None and jumps < MOST_JUMPS and (until is None or due_at < until):
        if postponed is not None and due_at >= postponed:
            yield Planned(postponed, clock.job, clock.name, postponed)
            postponed = None
        closed = closures.of(clock, due_at)
        if closed is None:
            jumps = 0
            yield Planned(due_at + clock.jitter, clock.job, clock.name, due_at)
            due_at = clock.after(due_at)
            continue
        postponed = closed.fires_at or postponed
        jumps += 1
        if with_closed:
            jumps = 0
            yield Planned(due_at, clock.job, clock.name, due_at, closed.reason)
        elif closed.until is None:
            return
        else:
            due_at = max(due_at, closed.until - _SECOND)
        due_at = clock.after(due_at)
    if postponed is not None:
        yield Planned(postponed, clock.job, clock.name, postponed)


def _first(clock: Clock, since: datetime) -> datetime | None:
    """The first due time whose fire may lie at or after `since`."""
    if clock.next_due is None or clock.next_due + clock.jitter >= since:
        return clock.next_due
    return clock.after(since - clock.jitter - _TINY)


@dataclass(frozen=True, slots=True)
class Shown:
    """A fire in a calendar, and whether another one begins at the same second."""

    planned: Planned
    collides: bool


def calendar(
    clocks: Iterable[Clock],
    closures: Closures,
    since: datetime,
    until: datetime,
    *,
    with_closed: bool = False,
    now: datetime | None = None,
) -> Iterator[Shown]:
    """Yield the fires of many clocks up to `until`, in the order of time, job and schedule.

    Two collide when they begin at the same second; what is closed collides with nothing. `now` is
    that of `fires`.
    """
    plans = heapq.merge(
        *(fires(c, closures, since, until, with_closed=with_closed, now=now) for c in clocks)
    )
    for _, group in groupby(plans, key=lambda planned: planned.at.replace(microsecond=0)):
        together = list(group)
        several = sum(planned.closed is None for planned in together) > 1
        for planned in together:
            yield Shown(planned, several and planned.closed is None)


def next_fire(clock: Clock, closures: Closures, now: datetime) -> datetime | None:
    """Return when a clock will really fire next; None when nothing is foreseen."""
    planned = next(fires(clock, closures, now), None)
    return planned.at if planned else None


def shown(instant: datetime) -> str:
    """Write an instant as reasons do: UTC, to the second."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# Many jobs share one expression; a page of a calendar asks for each again and again.
@lru_cache(maxsize=8_192)
def _next_cron(cron: str, timezone: str, instant: datetime) -> datetime | None:
    return schedule.parse(cron).next_after(instant, timezone)
