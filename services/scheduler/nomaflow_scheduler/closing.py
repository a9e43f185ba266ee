"""What closes a clock at a moment: pauses, its calendar, blackouts. Pure, asked under the lock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nomaflow.clock import schedule
from nomaflow.clock.calendars import Action, Blackout, Calendar
from nomaflow.errors import NomaflowError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nomaflow.store.closures import SwitchRow
    from nomaflow.store.due import Closures, JobFacts
    from nomaflow.store.schedules import ScheduleRow


@dataclass(frozen=True, slots=True)
class Postponement:
    """A due time runs later: at the end of the window that postpones it."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Closing:
    """What closes one clock of one job."""

    clock: ScheduleRow
    job: JobFacts
    switch: SwitchRow
    blackouts: Sequence[Blackout]
    """Those that concern this job."""
    calendar: Calendar | None

    def pause(self, due_at: datetime, now: datetime | None = None) -> str | None:
        """Why a pause lets this due time not fire: it fell into one, or one is on (at `now`)."""
        switch, until = self.switch, self.job.paused_until
        if (now and switch.paused) or _within(due_at, switch.paused_from, switch.paused_until):
            return f"paused: the whole scheduler was paused by {switch.by}"
        if until and ((now and now < until) or _within(due_at, self.job.paused_from, until)):
            return f"paused: the job is paused until {_shown(until)}"
        return None

    def shut(self, due_at: datetime) -> str | None:
        """Why a due time would not have fired at its own time; shortly, for many of them."""
        if reason := self.pause(due_at):
            return reason
        if self._closed(due_at):
            return f"calendar: {self.clock.calendar} is closed"
        return self._blackout(due_at)

    def skipped(self, due_at: datetime, now: datetime) -> str | None:
        """Why a due time does not fire now."""
        if reason := self.pause(due_at, now):
            return reason
        if words := self._closed(due_at):
            return f"calendar: {self.clock.calendar} is {words}"
        return self._blackout(due_at) or self._blackout(now)

    def postponed(self, due_at: datetime, now: datetime) -> Postponement | None:
        """Until when a due time waits for the end of a blackout, if it does."""
        for one in self.blackouts:
            if one.action is Action.POSTPONE and now < one.until and _over(one, due_at, now):
                return Postponement(one.until, f"blackout: {one.name} until {_shown(one.until)}")
        return None

    def waits(self, due_at: datetime, since: datetime) -> bool:
        """Tell whether a due time falls into a window that postpones, and ends after `since`."""
        return any(
            one.action is Action.POSTPONE
            and since < one.until
            and one.from_at <= due_at < one.until
            for one in self.blackouts
        )

    def _closed(self, due_at: datetime) -> str | None:
        if self.calendar is None:
            return None
        return self.calendar.closed(due_at.astimezone(schedule.zone(self.clock.timezone)))

    def _blackout(self, at: datetime) -> str | None:
        for one in self.blackouts:
            if one.action is Action.SKIP and one.from_at <= at < one.until:
                return f"blackout: {one.name} until {_shown(one.until)}"
        return None


@dataclass(frozen=True, slots=True)
class Sky:
    """What may close any clock at this moment."""

    now: datetime
    switch: SwitchRow
    blackouts: Sequence[Blackout]
    calendars: Mapping[str, Mapping[str, Any]]


def sky(closures: Closures) -> Sky:
    """Read once, for all clocks of a batch, what the database says."""
    blackouts = [
        Blackout(
            row.name,
            row.from_at,
            row.until,
            tuple(row.jobs),
            tuple(row.connectors),
            Action(row.action),
        )
        for row in closures.blackouts
    ]
    return Sky(closures.now, closures.switch, blackouts, closures.calendars)


def of(above: Sky, clock: ScheduleRow, job: JobFacts, connectors: Sequence[str]) -> Closing:
    """Gather what may close this clock; a calendar that is not there closes nothing."""
    blackouts = [one for one in above.blackouts if one.concerns(job.name, connectors)]
    definition = above.calendars.get(clock.calendar) if clock.calendar else None
    return Closing(clock, job, above.switch, blackouts, _calendar(clock.calendar, definition))


_parsed: dict[str, tuple[Mapping[str, Any], Calendar | None]] = {}


def _calendar(name: str | None, definition: Mapping[str, Any] | None) -> Calendar | None:
    """Parse a calendar once, until its definition changes."""
    if name is None or definition is None:
        return None
    known = _parsed.get(name)
    if known is None or known[0] != definition:
        try:
            known = definition, Calendar.parse(definition)
        except NomaflowError:
            known = definition, None
        _parsed[name] = known
    return known[1]


def _within(at: datetime, start: datetime | None, end: datetime | None) -> bool:
    return start is not None and start <= at and (end is None or at < end)


def _over(one: Blackout, due_at: datetime, now: datetime) -> bool:
    return one.from_at <= due_at < one.until or one.from_at <= now


@lru_cache(maxsize=1024)
def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
