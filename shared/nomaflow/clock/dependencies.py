"""Whether the jobs that a job depends on let it run: decided purely, from how they last ended.

The rule (J24): each of them must have succeeded when it last ended. With `since`, that success may
not be older than the day, or than a span of time. With `by`, a due time waits for it until then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Protocol

from nomaflow.clock import schedule
from nomaflow.errors import Code, NomaflowError

TODAY = "today"

_TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


class Dependency(Protocol):
    """One entry of `depends_on`."""

    @property
    def job(self) -> str: ...

    @property
    def since(self) -> str | None: ...

    @property
    def by(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands: how and when it last ended, and whether a run of it is in flight."""

    status: str | None = None
    finished_at: datetime | None = None
    in_flight: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why the run may not start, if so; until when it is worth waiting for (None: it is not)."""

    reason: str | None = None
    deadline: datetime | None = None


def decide(
    wanted: Sequence[Dependency],
    standings: Mapping[str, Standing],
    due_at: datetime,
    timezone: str,
) -> Verdict:
    """Decide for a due time, or for the moment of a manual trigger; the first that fails speaks.

    It waits only as long as each unmet dependency allows it to.
    """
    unmet = [
        (one, reason)
        for one in wanted
        if (reason := _unmet(one, standings.get(one.job, Standing()), due_at, timezone))
    ]
    if not unmet:
        return Verdict()
    deadlines = [deadline(one, due_at, timezone) for one, _ in unmet]
    waits = [at for at in deadlines if at is not None]
    return Verdict(unmet[0][1], min(waits) if len(waits) == len(deadlines) else None)


def _unmet(one: Dependency, standing: Standing, due_at: datetime, timezone: str) -> str | None:
    start = _start(one, due_at, timezone)
    fresh = start is None or (standing.finished_at is not None and standing.finished_at >= start)
    if standing.status == "succeeded" and fresh:
        return None
    if standing.in_flight:
        return f"dependency-still-running: {one.job}"
    if standing.status is None:
        return f"dependency-never-ran: {one.job}"
    if standing.status == "succeeded":
        return f"dependency-never-ran: {one.job} (it has not succeeded {_age(one)})"
    return f"dependency-failed: {one.job}"


def _age(one: Dependency) -> str:
    return "today" if one.since == TODAY else f"within {one.since}"


def _start(one: Dependency, due_at: datetime, timezone: str) -> datetime | None:
    if one.since is None:
        return None
    return read_since(one.since)(due_at, timezone)


def deadline(one: Dependency, due_at: datetime, timezone: str) -> datetime | None:
    """Until when a due time waits for this dependency; None: it does not wait."""
    return None if one.by is None else read_by(one.by)(due_at, timezone)


Instant = Callable[[datetime, str], datetime]
"""From a due time and the zone of its schedule to an instant."""


def read_since(text: str) -> Instant:
    """Read `today` or a span such as `24h`; NomaflowError INVALID for anything else."""
    if text.strip().lower() == TODAY:
        return _midnight
    span = _span(text, f"`since` must be `today` or a time such as `24h`, not `{text[:40]}`")
    return lambda due_at, _timezone: due_at - span


def read_by(text: str) -> Instant:
    """Read a time of day such as `09:00`, or a span such as `30m`; NomaflowError INVALID."""
    clock = _TIME_OF_DAY.fullmatch(text.strip())
    if clock:
        at = time(int(clock[1]), int(clock[2]))
        return lambda due_at, timezone: _next_time_of_day(at, due_at, timezone)
    wanted = (
        f"`by` must be a time of day such as `09:00` or a time such as `30m`, not `{text[:40]}`"
    )
    span = _span(text, wanted)
    return lambda due_at, _timezone: due_at + span


def _span(text: str, wanted: str) -> timedelta:
    try:
        return timedelta(seconds=schedule.every_seconds(text))
    except NomaflowError:
        raise NomaflowError(Code.INVALID, wanted) from None


def _midnight(due_at: datetime, timezone: str) -> datetime:
    place = schedule.zone(timezone)
    return datetime.combine(due_at.astimezone(place).date(), time(), place).astimezone(
        due_at.tzinfo
    )


def _next_time_of_day(at: time, due_at: datetime, timezone: str) -> datetime:
    """The first such time of day at or after the due time."""
    place = schedule.zone(timezone)
    day = due_at.astimezone(place).date()
    moment = datetime.combine(day, at, place).astimezone(due_at.tzinfo)
    if moment < due_at:
        moment = datetime.combine(day + timedelta(days=1), at, place).astimezone(due_at.tzinfo)
    return moment
