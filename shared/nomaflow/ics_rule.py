"""The days on which a recurrence rule of RFC 5545 falls, worked out within a budget."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NoReturn

from nomaflow.errors import Code, NomaflowError

MOST_LOOKS = 500_000
"""Days and periods that all rules of one file together may look at."""

_EARLIEST = date(1900, 1, 1)
_MOST = 9_999
_LONGEST = 500
_WEEK = 7
_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_BY_DAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)", re.ASCII)
_UNTIL = re.compile(r"\d{8}(?:T\d{6}Z?)?", re.ASCII)
_FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
_PARTS = (
    "FREQ",
    "INTERVAL",
    "COUNT",
    "UNTIL",
    "WKST",
    "BYDAY",
    "BYMONTH",
    "BYMONTHDAY",
    "BYSETPOS",
)


@dataclass(slots=True)
class Budget:
    """What is left of the work that one file may cause."""

    looks: int = MOST_LOOKS

    def spend(self, looks: int = 1) -> None:
        """Take some of it; NomaflowError LIMIT_EXCEEDED when it is used up."""
        self.looks -= looks
        if self.looks < 0:
            raise NomaflowError(
                Code.LIMIT_EXCEEDED,
                "the recurrence rules of this file take too long to work out; give them an UNTIL, "
                "or list the days",
            )


@dataclass(frozen=True, slots=True)
class _Rule:
    frequency: str
    interval: int = 1
    count: int | None = None
    until: date | None = None
    week_start: int = 0
    by_day: tuple[tuple[int, int], ...] = ()  # (which, 0 for each; weekday)
    by_month: frozenset[int] = frozenset()
    by_month_day: tuple[int, ...] = ()
    by_position: tuple[int, ...] = ()


def dates(rule: str | None, start: date, first: date, last: date, budget: Budget) -> Iterator[date]:
    """Yield the days on which an event's occurrences begin up to `last`, in order.

    Those before `first` may be left out. `start` is an occurrence whatever the rule says.
    NomaflowError INVALID says what of the rule cannot be read.
    """
    if rule is None:
        yield start
        return
    if start < _EARLIEST:
        _refuse(f"it recurs since {start}; give it a DTSTART after {_EARLIEST.year}")
    read = _parse(rule)
    last = min(last, read.until) if read.until else last
    left = read.count if read.count is not None else -1
    yielded_start = False
    begin = start if read.count is not None else max(start, first)
    for day in _walk(read, start, begin, last, budget):
        if not yielded_start and day != start:
            yield start
            left -= 1
        yielded_start = True
        if left == 0:
            return
        yield day
        left -= 1
    if not yielded_start and start <= last:
        yield start


def _walk(rule: _Rule, start: date, wanted: date, last: date, budget: Budget) -> Iterator[date]:
    begin: date | None = _near(rule, _period_of(rule, start), wanted)
    while begin is not None and begin <= last:
        budget.spend()
        for day in _in_period(rule, begin, start, budget):
            if day > last:
                return
            if day >= start:
                yield day
        begin = _next_period(rule, begin)


def _period_of(rule: _Rule, start: date) -> date:
    match rule.frequency:
        case "YEARLY":
            return start.replace(month=1, day=1)
        case "MONTHLY":
            return start.replace(day=1)
        case "WEEKLY":
            return start - timedelta(days=(start.weekday() - rule.week_start) % _WEEK)
    return start


def _near(rule: _Rule, begin: date, wanted: date) -> date:
    """Leap over the periods that lie before `wanted`, in steps of the rule's own."""
    match rule.frequency:
        case "YEARLY":
            ahead = max(0, wanted.year - begin.year) // rule.interval
            return begin.replace(year=begin.year + ahead * rule.interval)
        case "MONTHLY":
            months = (wanted.year - begin.year) * 12 + wanted.month - begin.month
            return _month_after(begin, max(0, months) // rule.interval * rule.interval)
    step = rule.interval * (_WEEK if rule.frequency == "WEEKLY" else 1)
    return begin + timedelta(days=max(0, (wanted - begin).days) // step * step)


def _month_after(begin: date, months: int) -> date:
    months += begin.year * 12 + begin.month - 1
    return date(months // 12, months % 12 + 1, 1)


def _next_period(rule: _Rule, begin: date) -> date | None:
    try:
        match rule.frequency:
            case "YEARLY":
                return begin.replace(year=begin.year + rule.interval)
            case "MONTHLY":
                return _month_after(begin, rule.interval)
            case "WEEKLY":
                return begin + timedelta(days=_WEEK * rule.interval)
        return begin + timedelta(days=rule.interval)
    except (ValueError, OverflowError):
        return None


def _in_period(rule: _Rule, begin: date, start: date, budget: Budget) -> list[date]:
    match rule.frequency:
        case "YEARLY":
            found = _in_year(rule, begin.year, start)
        case "MONTHLY":
            found = _in_month(rule, begin.year, begin.month, start)
        case "WEEKLY":
            found = _in_week(rule, begin, start)
        case _:
            found = [begin] if _fits(rule, begin) else []
    budget.spend(len(found))
    days = sorted(set(found))
    if rule.by_position:
        days = sorted(
            {days[p - (p > 0)] for p in rule.by_position if -len(days) <= p - (p > 0) < len(days)}
        )
    return days


def _in_year(rule: _Rule, year: int, start: date) -> list[date]:
    if rule.by_day and not rule.by_month and not rule.by_month_day:
        return _weekdays_in(rule, date(year, 1, 1), 365 + calendar.isleap(year))
    months = rule.by_month or ({start.month} if not rule.by_month_day else range(1, 13))
    return [day for month in sorted(months) for day in _in_month(rule, year, month, start)]


def _in_month(rule: _Rule, year: int, month: int, start: date) -> list[date]:
    if rule.by_month and month not in rule.by_month:
        return []
    length = calendar.monthrange(year, month)[1]
    first = date(year, month, 1)
    by_number = {n if n > 0 else length + 1 + n for n in rule.by_month_day}
    numbered = [first.replace(day=n) for n in by_number if 1 <= n <= length]
    if rule.by_day:
        days = _weekdays_in(rule, first, length)
        return [day for day in days if day in numbered] if rule.by_month_day else days
    if rule.by_month_day:
        return numbered
    return [first.replace(day=start.day)] if start.day <= length else []


def _weekdays_in(rule: _Rule, first: date, length: int) -> list[date]:
    """Each of the weekdays, or the nth from either end, in a stretch of days."""
    found: list[date] = []
    for which, weekday in rule.by_day:
        offset = (weekday - first.weekday()) % _WEEK
        days = [first + timedelta(days=n) for n in range(offset, length, _WEEK)]
        if which == 0:
            found += days
        elif -len(days) <= which - (which > 0) < len(days):
            found.append(days[which - (which > 0)])
    return found


def _in_week(rule: _Rule, begin: date, start: date) -> list[date]:
    weekdays = {weekday for _, weekday in rule.by_day} or {start.weekday()}
    try:
        days = [begin + timedelta(days=n) for n in range(_WEEK)]
    except OverflowError:
        return []
    return [
        day
        for day in days
        if day.weekday() in weekdays and (not rule.by_month or day.month in rule.by_month)
    ]


def _fits(rule: _Rule, day: date) -> bool:
    length = calendar.monthrange(day.year, day.month)[1]
    return (
        (not rule.by_month or day.month in rule.by_month)
        and (not rule.by_month_day or bool({day.day, day.day - length - 1} & {*rule.by_month_day}))
        and (not rule.by_day or day.weekday() in {weekday for _, weekday in rule.by_day})
    )


def _parse(text: str) -> _Rule:
    if len(text) > _LONGEST:
        _refuse(f"its RRULE is longer than {_LONGEST} characters")
    parts: dict[str, str] = {}
    for part in text.upper().split(";"):
        name, equals, value = part.strip().partition("=")
        if not equals or name in parts:
            _refuse(f"`{part[:40]}` in its RRULE cannot be read")
        if name not in _PARTS:
            _refuse(f"`{name[:40]}` in its RRULE cannot be read; write the days as events")
        parts[name] = value
    frequency = parts.get("FREQ", "")
    if frequency not in _FREQUENCIES:
        _refuse(f"it recurs `{frequency[:40]}`; days recur DAILY, WEEKLY, MONTHLY or YEARLY")
    if "COUNT" in parts and "UNTIL" in parts:
        _refuse("its RRULE has both COUNT and UNTIL; one of them may be given")
    by_day = _by_day(parts.get("BYDAY", ""))
    if frequency in ("DAILY", "WEEKLY") and any(which for which, _ in by_day):
        _refuse(f"a number before a weekday says nothing in a {frequency} rule")
    if frequency == "WEEKLY" and "BYMONTHDAY" in parts:
        _refuse("BYMONTHDAY says nothing in a WEEKLY rule")
    return _Rule(
        frequency=frequency,
        interval=_number(parts, "INTERVAL", 1),
        count=_number(parts, "COUNT", 1) if "COUNT" in parts else None,
        until=_until(parts["UNTIL"]) if "UNTIL" in parts else None,
        week_start=_weekday(parts.get("WKST", "MO")),
        by_day=by_day,
        by_month=frozenset(_numbers(parts, "BYMONTH", 1, 12)),
        by_month_day=_numbers(parts, "BYMONTHDAY", -31, 31),
        by_position=_numbers(parts, "BYSETPOS", -366, 366),
    )


def _by_day(text: str) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for each in filter(None, text.split(",")):
        match = _BY_DAY.fullmatch(each)
        if match is None:
            _refuse(f"`{each[:40]}` in its RRULE is not a weekday such as MO or 2MO")
        found.append((int(match[1] or 0), _weekday(match[2])))
    return tuple(found)


def _weekday(text: str) -> int:
    if text not in _DAYS:
        _refuse(f"`{text[:40]}` in its RRULE is not a weekday such as MO")
    return _DAYS.index(text)


def _until(text: str) -> date:
    try:
        if not _UNTIL.fullmatch(text):
            raise ValueError
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        _refuse(f"`{text[:40]}` in its RRULE is not a date such as 20261225")


def _number(parts: Mapping[str, str], name: str, low: int) -> int:
    found = _numbers(parts, name, low, _MOST)
    if len(found) > 1:
        _refuse(f"its RRULE has more than one {name}")
    return found[0] if found else low


def _numbers(parts: Mapping[str, str], name: str, low: int, high: int) -> tuple[int, ...]:
    if name not in parts:
        return ()
    found: list[int] = []
    for each in parts[name].split(","):
        digits = each.removeprefix("-") if low < 0 else each
        digits = digits.removeprefix("+")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(_MOST))):
            _refuse(f"`{name}={each[:40]}` in its RRULE is not a number")
        value = -int(digits) if each.startswith("-") else int(digits)
        if value == 0 or not low <= value <= high:
            _refuse(f"`{name}={value}` in its RRULE must be from {low} to {high}, and not 0")
        found.append(value)
    return tuple(found)


def _refuse(message: str) -> NoReturn:
    raise NomaflowError(Code.INVALID, message)
