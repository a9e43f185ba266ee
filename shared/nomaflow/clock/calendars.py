"""When a job may fire: named calendars of open days and hours, and blackouts that have an end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from nomaflow.clock import calendar_text
from nomaflow.clock.calendar_text import Days, Window
from nomaflow.errors import Code, NomaflowError

MOST_PATTERNS = 100
LONGEST_BLACKOUT = timedelta(days=366)
FIELDS = ("weekdays", "exclude", "include", "windows", "ics", "ics_days")
BLACKOUT_FIELDS = ("name", "from", "until", "jobs", "connectors", "action")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_PATTERN = re.compile(r"[A-Za-z0-9_\-*?\[\]!]{1,128}", re.ASCII)
_MOST_EDGES = 800  # of days and windows that are walked over in one go
_FIRST_YEAR, _LAST_YEAR = 1900, 9000  # far from where the machine's own calendar ends
_SHOWN = 60

Problem = tuple[tuple[str, ...], str]


class Action(StrEnum):
    """What becomes of a due time inside a blackout."""

    SKIP = "skip"
    POSTPONE = "postpone"  # it fires once when the blackout ends


@dataclass(frozen=True, slots=True)
class Calendar:
    """The days and hours at which jobs that name it may fire; made by `parse`.

    An included day is open from midnight to midnight, whatever the other rules say.
    """

    weekdays: frozenset[int] = frozenset(range(7))
    exclude: Days = calendar_text.NO_DAYS
    include: Days = calendar_text.NO_DAYS
    windows: tuple[Window, ...] = ()
    ics_days: Mapping[date, str] | None = None
    """Days of an iCalendar file, each with what it is called."""

    @classmethod
    def parse(cls, definition: Mapping[str, Any]) -> Calendar:
        """Read a table of calendars.toml, with `ics_days` in place of the file that `ics` names.

        NomaflowError INVALID says what is wrong, and its path where.
        """
        for path, message in problems(definition):
            raise NomaflowError(Code.INVALID, message, path)
        return cls(**{name: read(definition[name]) for name, read in _read(definition)})

    def closed(self, local: datetime) -> str | None:
        """Say why it is closed at a wall-clock moment of the schedule's zone; None when open.

        The words follow "calendar x is": `closed on 2026-12-25 (Christmas)`.
        """
        day = local.date()
        if day in self.include:
            return None
        holidays = self.ics_days or {}
        if day in holidays:
            called = holidays[day]
            return f"closed on {day}" + (f" ({called})" if called else "")
        if day in self.exclude:
            return f"closed on {day}"
        if day.weekday() not in self.weekdays:
            return f"closed on {day} (a {calendar_text.WEEKDAYS[day.weekday()]})"
        if self.windows and not any(window.holds(local) for window in self.windows):
            return f"closed on {day} at {local:%H:%M} (outside its windows)"
        return None

    def closed_until(self, local: datetime) -> datetime:
        """Return a later wall-clock moment until which a closed calendar surely stays closed."""
        at = self._next_edge(local)
        for _ in range(_MOST_EDGES):
            if self.closed(at) is None:
                break
            at = self._next_edge(at)
        return at

    def _next_edge(self, local: datetime) -> datetime:
        """The next moment at which it may open: a window of that day begins, or the next day."""
        day = datetime.combine(local.date(), time(), local.tzinfo)
        begins = [
            datetime.combine(day, window.begin, local.tzinfo)
            for window in self.windows
            if local.weekday() in window.days and window.begin > local.time()
        ]
        return min([*begins, day + timedelta(days=1)])


@dataclass(frozen=True, slots=True)
class Blackout:
    """A stretch of time in which some jobs do not fire; from `from_at` until just before `until`.

    It concerns the jobs whose name matches one of the shell-style patterns `jobs`, and those
    with a step that uses one of `connectors` (patterns as well).
    """

    name: str
    from_at: datetime
    until: datetime
    jobs: tuple[str, ...]
    connectors: tuple[str, ...] = ()
    action: Action = Action.SKIP

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> Blackout:
        """Read one `[[blackouts]]` table; times must carry an offset.

        NomaflowError INVALID says what is wrong, and its path where.
        """
        for path, message in blackout_problems(table):
            raise NomaflowError(Code.INVALID, message, path)
        return cls(
            name=table["name"],
            from_at=_instant(table["from"]),
            until=_instant(table["until"]),
            jobs=tuple(table.get("jobs") or ()),
            connectors=tuple(table.get("connectors") or ()),
            action=Action(table.get("action") or Action.SKIP),
        )

    def concerns(self, job_name: str, connectors: Sequence[str]) -> bool:
        """Tell whether a job that uses these connectors is meant, at whatever time."""
        return any(fnmatchcase(job_name, pattern) for pattern in self.jobs) or any(
            fnmatchcase(used, pattern) for pattern in self.connectors for used in connectors
        )

    def covers(self, job_name: str, connectors: Sequence[str], at: datetime) -> bool:
        """Tell whether a due time of that job falls into it."""
        return self.from_at <= at < self.until and self.concerns(job_name, connectors)


def problems(definition: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with a calendar's table, each with its path in it."""
    for name in definition:
        if name not in FIELDS:
            known = calendar_text.listed(FIELDS[:-1])
            yield (name,), f"there is no field `{name[:_SHOWN]}`; a calendar has {known}"
    if not any(name in definition for name in FIELDS):
        yield (), f"it closes nothing; give one of {calendar_text.listed(FIELDS[:-1])}"
    for name, read in _read(definition):
        try:
            read(definition[name])
        except NomaflowError as error:
            yield (name, *error.path), error.message


def blackout_problems(table: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with a blackout's table, each with its path in it."""
    for field in table:
        if field not in BLACKOUT_FIELDS:
            known = calendar_text.listed(BLACKOUT_FIELDS)
            yield (field,), f"there is no field `{field[:_SHOWN]}`; a blackout has {known}"
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield ("name",), "`name` must be 1 to 128 letters, digits, `-` or `_`"
    yield from _span_problems(table)
    for field in ("jobs", "connectors"):
        yield from _pattern_problems(field, table.get(field))
    if not table.get("jobs") and not table.get("connectors"):
        yield ("jobs",), 'say which jobs it stops, `jobs = ["*"]` for all, or which `connectors`'
    action = table.get("action")
    if action is not None and action not in list(Action):
        yield ("action",), f"`action` must be skip or postpone, not {calendar_text.written(action)}"


def _span_problems(table: Mapping[str, Any]) -> Iterator[Problem]:
    times: list[datetime] = []
    for field in ("from", "until"):
        try:
            times.append(_instant(table.get(field)))
        except NomaflowError as error:
            yield (field,), f"`{field}` {error.message}"
    if len(times) < len(("from", "until")):
        return
    if times[1] <= times[0]:
        yield ("until",), "`until` must be later than `from`"
    elif times[1] - times[0] > LONGEST_BLACKOUT:
        yield ("until",), "a blackout lasts at most 366 days; to stop a job for good, disable it"


def _pattern_problems(field: str, patterns: Any) -> Iterator[Problem]:
    if patterns is None:
        return
    if not isinstance(patterns, list | tuple) or len(patterns) > MOST_PATTERNS:
        yield (field,), f"`{field}` must be a list of at most {MOST_PATTERNS} names or patterns"
        return
    for at, pattern in enumerate(patterns):
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
            shown = calendar_text.written(pattern)
            yield (field, str(at)), f"{shown} is neither a name nor a pattern such as `report-*`"


def _instant(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise calendar_text.invalid(
                f"must be a time such as 2026-12-05T20:00:00Z, not {calendar_text.written(value)}"
            ) from None
    if not isinstance(value, datetime):
        said = (
            "is missing" if value is None else f"must be a time, not {calendar_text.written(value)}"
        )
        raise calendar_text.invalid(said)
    if value.tzinfo is None:
        raise calendar_text.invalid(
            "must say its offset, as 2026-12-05T20:00:00Z or ...+01:00 does"
        )
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        raise calendar_text.invalid(f"is outside the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return value.astimezone(UTC)


def _read(definition: Mapping[str, Any]) -> list[tuple[str, Callable[[Any], Any]]]:
    readers: dict[str, Callable[[Any], Any]] = {
        "weekdays": calendar_text.weekdays,
        "exclude": calendar_text.days,
        "include": calendar_text.days,
        "windows": calendar_text.windows,
        "ics_days": calendar_text.named_days,
    }
    return [(name, read) for name, read in readers.items() if definition.get(name) is not None]
