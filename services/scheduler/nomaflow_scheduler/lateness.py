"""What a late scheduler still fires, makes up for, and has missed; pure, with time as an argument.

A due time up to a minute late is merely late, and fires: that covers a restart, a standby taking
over, a database that was away for a moment. An older one was missed, and `catch_up` says whether
it fires all the same (S16). Of a clock that catches up and has missed some, those that are merely
late are made up for like the others: they are the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count, groupby, takewhile
from typing import TYPE_CHECKING

from nomaflow.clock import schedule
from nomaflow.in_force.clocks import following
from nomaflow.store.missed import Stretch

if TYPE_CHECKING:
    from nomaflow.store.schedules import ScheduleRow

GRACE = timedelta(seconds=60)
PIECE = 2_000
"""Due times looked at in one go, so that a month of missed seconds keeps nobody waiting."""
INSTANT = timedelta(microseconds=1)
MOST_EXAMINED = 100_000
"""How far back the newest due times that may fire are looked for."""
WINDOW_OF_ALL = timedelta(days=1)
"""How old a due time may be that `catch_up = "all"` makes up for, unless the job says."""

SUPERSEDED = "blackout: postponed, and a later due time runs at its end"

Shut = Callable[[datetime], str | None]
"""Why a due time would not have fired when it was due; None: it would have."""
Postponed = Callable[[datetime], bool]
"""Whether a blackout that has not ended long ago postpones this due time: the newest one runs."""


@dataclass(frozen=True, slots=True)
class Fire:
    """A due time that fires now, unless something stands against it."""

    due_at: datetime
    caught_up: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """What becomes of a clock's due times in one go: recorded, or fired; and the next one."""

    stretches: tuple[Stretch, ...]
    fires: tuple[Fire, ...]
    next_fire_at: datetime | None


def open_always(_due_at: datetime) -> None:
    """Shut nothing."""


def at_once(_due_at: datetime) -> bool:
    """Postpone nothing."""
    return False


def serve(
    clock: ScheduleRow,
    now: datetime,
    shut: Shut = open_always,
    postponed: Postponed = at_once,
) -> Served:
    """Decide what a clock that is due does at `now`; a long absence is served in pieces."""
    due_at = clock.next_fire_at
    if due_at is None or clock.look_at is None:
        return Served((), (), None)
    if not is_missed(clock, now):
        after = following(clock, due_at)
        if postponed(due_at) and _is_postponed_too(after, now, postponed):
            return Served((Stretch((due_at,), "skipped", SUPERSEDED),), (), after)
        return Served((), (Fire(due_at),), after)
    nominal = now - (clock.look_at - due_at)
    merely_late = nominal - GRACE
    # The newest due time is the one that catching up is for: it never gives way to an older one.
    edge = merely_late if clock.catch_up == "none" else nominal + INSTANT
    caught = _made_up_for(clock, now, edge, lambda at: not shut(at) and not postponed(at))
    times = _piece(clock, edge, merely_late, caught)
    after = following(clock, times[-1])
    waiting = next((at for at in reversed(times) if postponed(at)), None)
    chosen = {*caught, None if _is_postponed_too(after, now, postponed) else waiting}
    words = _words(clock)

    def recorded(at: datetime) -> tuple[str, str]:
        if postponed(at):
            return "skipped", SUPERSEDED
        reason = shut(at)
        return ("skipped", reason) if reason else ("missed", words)

    stretches = tuple(
        Stretch(tuple(group), *kind)
        for kind, group in groupby((at for at in times if at not in chosen), key=recorded)
    )
    fires = tuple(Fire(at, caught_up=at in caught) for at in times if at in chosen)
    return Served(stretches, fires, after)


def _is_postponed_too(at: datetime | None, now: datetime, postponed: Postponed) -> bool:
    return at is not None and at <= now and postponed(at)


def is_missed(clock: ScheduleRow, now: datetime) -> bool:
    """Tell whether the clock's due time is too old to fire; the first fire of all never is."""
    if clock.look_at is None or (clock.fire_on_start and clock.fire_count == 0):
        return False
    return clock.look_at < now - GRACE


def _words(clock: ScheduleRow) -> str:
    said = "missed: no scheduler fired it in its time, and the schedule"
    match clock.catch_up:
        case "last":
            return f"{said} catches up with the newest one only"
        case "all":
            return f"{said} catches up with the newest {clock.catch_up_limit} of its window only"
        case _:
            return (
                f"missed: no scheduler fired it within {GRACE.seconds} s of its time, "
                "and the schedule does not catch up"
            )


def _made_up_for(
    clock: ScheduleRow, now: datetime, edge: datetime, may_fire: Callable[[datetime], bool]
) -> tuple[datetime, ...]:
    """The missed due times that fire all the same, in order."""
    most = {"last": 1, "all": clock.catch_up_limit}.get(clock.catch_up, 0)
    if clock.max_fires:
        most = min(most, max(clock.max_fires - clock.fire_count, 0))
    if not most:
        return ()
    window = clock.catch_up_window_seconds
    if window is None and clock.catch_up == "all":
        window = WINDOW_OF_ALL.total_seconds()
    # What is merely late fires however narrow the window: it would without any catching up.
    since = None if window is None else min(now - timedelta(seconds=window), edge - GRACE - INSTANT)
    return tuple(_newest(clock, edge, most, since, may_fire))


def _newest(
    clock: ScheduleRow,
    edge: datetime,
    most: int,
    since: datetime | None,
    may_fire: Callable[[datetime], bool],
) -> list[datetime]:
    """Find the newest due times before `edge`, looking back in ever longer steps."""
    assert clock.next_fire_at is not None  # noqa: S101  it is due
    first = max(clock.next_fire_at, since or clock.next_fire_at)
    back = timedelta(seconds=(clock.every_seconds or 1) * most)
    found: list[datetime] = []
    examined, end = 0, edge
    while end > first and len(found) < most and examined < MOST_EXAMINED:
        start = max(first, end - back)
        times = list(_between(clock, start, end))
        examined += len(times)
        found = [at for at in times if may_fire(at)] + found
        end, back = start, back * 4
    return found[-most:]


def _between(clock: ScheduleRow, start: datetime, end: datetime) -> Iterator[datetime]:
    """The clock's due times from `start` until just before `end`."""
    due_at = clock.next_fire_at
    assert due_at is not None  # noqa: S101  it is due
    if clock.cron is not None:
        before = max(start, due_at) - timedelta(microseconds=1)
        times = schedule.parse(clock.cron).walk(before, clock.timezone)
    else:
        step = timedelta(seconds=clock.every_seconds or 0)
        first = due_at + max(-((due_at - start) // step), 0) * step
        times = (first + n * step for n in count())
    # The first one need not be a time of the pattern: it may have been set by hand.
    yield from (due_at,) if start <= due_at < end else ()
    yield from takewhile(lambda at: at < end, (at for at in times if at > due_at))


def _piece(
    clock: ScheduleRow, edge: datetime, merely_late: datetime, caught: tuple[datetime, ...]
) -> tuple[datetime, ...]:
    """The due times served in one go: never only some of those that are made up for.

    Nor some of those from `merely_late` on, which would then fire as if nothing had been missed.
    """
    times: list[datetime] = []
    assert clock.next_fire_at is not None  # noqa: S101  it is due
    for at in _between(clock, clock.next_fire_at, edge):
        if len(times) >= PIECE and at < merely_late:
            begun = bool(caught) and caught[0] <= times[-1] < caught[-1]
            if not begun:
                break
            if times[0] < caught[0]:
                return tuple(one for one in times if one < caught[0])
        times.append(at)
    return tuple(times)
