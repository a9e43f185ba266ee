"""Reads what people write about days and hours: weekdays, dates, spans of dates, daily windows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, TypeVar

from nomaflow.errors import Code, NomaflowError

MOST_DAYS = 5_000
MOST_WINDOWS = 50
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_OF_YEAR = re.compile(r"(\d{2})-(\d{2})", re.ASCII)
_RANGE = re.compile(r"(\d{4}-\d{2}-\d{2})\s*\.\.\s*(\d{4}-\d{2}-\d{2})", re.ASCII)
_WINDOW = re.compile(r"(?:(\S+)\s+)?(\d{2}:\d{2})\s*-\s*(\d{2}:\d{2})", re.ASCII)
_MIDNIGHT = time(0)
_LEAP_YEAR = 2000
_SHOWN = 60

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of some weekdays (0 = Monday); one that passes midnight belongs to the day it began."""

    days: frozenset[int]
    begin: time
    end: time  # 00:00 is the end of the day

    def holds(self, local: datetime) -> bool:
        """Tell whether a wall-clock moment lies inside."""
        now, today = local.time(), local.weekday()
        if self.begin < self.end or self.end == _MIDNIGHT:
            return (
                today in self.days
                and self.begin <= now
                and (now < self.end or self.end == _MIDNIGHT)
            )
        yesterday = (today - 1) % len(_NAMES)
        return (today in self.days and now >= self.begin) or (
            yesterday in self.days and now < self.end
        )


@dataclass(frozen=True, slots=True)
class Days:
    """Days by their date, and days of every year by month and day."""

    dates: frozenset[date] = frozenset()
    yearly: frozenset[tuple[int, int]] = frozenset()

    def __contains__(self, day: date) -> bool:
        return day in self.dates or (day.month, day.day) in self.yearly


NO_DAYS = Days()


def weekdays(value: Any) -> frozenset[int]:
    """Read a list of weekdays, 0 = Monday. Like all here: NomaflowError INVALID, with the place."""
    found = frozenset(_each(value, _weekday, len(_NAMES) * 2, 'weekdays, such as ["mon", "tue"]'))
    if not found:
        raise invalid("no weekday is open; name at least one, or disable the jobs")
    return found


def _weekday(value: Any) -> int:
    text = value.strip().lower() if isinstance(value, str) else ""
    for at, name in enumerate(WEEKDAYS):
        if text in (_NAMES[at], name.lower()):
            return at
    raise invalid(f"{written(value)} is not a weekday; write mon tue wed thu fri sat or sun")


def days(value: Any) -> Days:
    """Read a list of days: `2026-12-25`, `12-25` (every year), `2026-12-24..2027-01-02`."""
    what = 'days, such as ["2026-12-25"]'
    found = _each(value, _some_days, MOST_DAYS, what)
    dates = [day for some in found for day in some.dates]
    if len(dates) > MOST_DAYS:
        raise invalid(f"these are more than {MOST_DAYS} days")
    return Days(frozenset(dates), frozenset(day for days in found for day in days.yearly))


def _some_days(value: Any) -> Days:
    if type(value) is date:
        return Days(frozenset({value}))
    text = value.strip() if isinstance(value, str) else ""
    try:
        if match := _DAY_OF_YEAR.fullmatch(text):
            day = date(_LEAP_YEAR, int(match[1]), int(match[2]))
            return Days(yearly=frozenset({(day.month, day.day)}))
        if match := _RANGE.fullmatch(text):
            return Days(frozenset(_between(_date(match[1]), _date(match[2]))))
        return Days(frozenset({_date(text)}))
    except ValueError:
        known = "write `2026-12-25`, `12-25` for every year, or `2026-12-24..2027-01-02`"
        raise invalid(f"{written(value)} is not a day; {known}") from None


def _date(text: str) -> date:
    if len(text) != len("2026-12-25"):
        raise ValueError
    return date.fromisoformat(text)


def _between(first: date, last: date) -> list[date]:
    if last < first:
        raise invalid(f"{last} is before {first}; write the earlier day first")
    length = (last - first).days + 1
    if length > MOST_DAYS:
        raise invalid(f"{first}..{last} are more than {MOST_DAYS} days")
    return [first + timedelta(days=n) for n in range(length)]


def windows(value: Any) -> tuple[Window, ...]:
    """Read a list of windows such as `mon-fri 08:00-18:00`."""
    found = _each(value, _window, MOST_WINDOWS, 'windows, such as ["mon-fri 08:00-18:00"]')
    if not found:
        raise invalid("no hour is open; give at least one window, or leave `windows` out")
    return tuple(found)


def _window(value: Any) -> Window:
    match = _WINDOW.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        known = "write `mon-fri 08:00-18:00`, `sat,sun 10:00-16:00` or `22:00-06:00`"
        raise invalid(f"{written(value)} is not a window; {known}")
    days, begin, end = match.groups()
    window = Window(_window_days(days), _time(begin), _time(end, last=True))
    if window.begin == window.end and window.end != _MIDNIGHT:
        raise invalid(f"{written(value)} has no length; `00:00-24:00` is the whole day")
    return window


def _window_days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(len(_NAMES)))
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        begin = _weekday(first)
        length = (_weekday(last) - begin) % len(_NAMES) if last else 0
        found |= {(begin + n) % len(_NAMES) for n in range(length + 1)}
    return frozenset(found)


def _time(text: str, *, last: bool = False) -> time:
    if last and text == "24:00":
        return _MIDNIGHT
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise invalid(f"`{text}` is not a time of day; it goes from 00:00 to 24:00") from None


def named_days(value: Any) -> dict[date, str]:
    """Read a table of dates with their names, as an iCalendar file was expanded into."""
    if not isinstance(value, Mapping):
        raise invalid("must be a table of days and their names")
    try:
        return {_date(day): str(called) for day, called in value.items()}
    except (ValueError, TypeError):
        raise invalid("must be a table of days, such as 2026-12-25, and their names") from None


def _each(value: Any, read: Callable[[Any], T], most: int, what: str) -> list[T]:
    if not isinstance(value, list | tuple):
        raise invalid(f"must be a list of {what}, not {written(value)}")
    if len(value) > most:
        raise invalid(f"must have at most {most} entries, not {len(value)}")
    found = []
    for at, entry in enumerate(value):
        try:
            found.append(read(entry))
        except NomaflowError as error:
            raise NomaflowError(error.code, error.message, (str(at),)) from None
    return found


def invalid(message: str) -> NomaflowError:
    """Make the refusal of something written."""
    return NomaflowError(Code.INVALID, message)


def written(value: Any) -> str:
    """Show a value that was refused, shortly."""
    shown = str(value)
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."
    return f'"{shown}"' if isinstance(value, str) else shown


def listed(names: Sequence[str]) -> str:
    """Write names one after the other, for a sentence."""
    return ", ".join(f"`{name}`" for name in names)
