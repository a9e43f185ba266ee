"""The days on which a recurrence rule of RFC 5545 falls, worked out within a budget."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from nomaflow.clock import ics_rule_text
from nomaflow.clock.ics_rule_text import Rule
from nomaflow.errors import Code, NomaflowError

MOST_LOOKS = 500_000
"""Days and periods that all rules of one file together may look at."""

_EARLIEST = date(1900, 1, 1)
_WEEK = 7


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


def dates(rule: str | None, start: date, first: date, last: date, budget: Budget) -> Iterator[date]:
    """Yield the days on which an event's occurrences begin up to `last`, in order.

    Those before `first` may be left out. `start` is an occurrence whatever the rule says.
    NomaflowError INVALID says what of the rule cannot be read.
    """
    if rule is None:
        yield start
        return
    if start < _EARLIEST:
        said = f"it recurs since {start}; give it a DTSTART after {_EARLIEST.year}"
        raise NomaflowError(Code.INVALID, said)
    read = ics_rule_text.parse(rule)
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


def _walk(rule: Rule, start: date, wanted: date, last: date, budget: Budget) -> Iterator[date]:
    begin: date | None = _near(rule, _period_of(rule, start), wanted)
    while begin is not None and begin <= last:
        budget.spend()
        for day in _in_period(rule, begin, start, budget):
            if day > last:
                return
            if day >= start:
                yield day
        begin = _next_period(rule, begin)


def _period_of(rule: Rule, start: date) -> date:
    match rule.frequency:
        case "YEARLY":
            return start.replace(month=1, day=1)
        case "MONTHLY":
            return start.replace(day=1)
        case "WEEKLY":
            return start - timedelta(days=(start.weekday() - rule.week_start) % _WEEK)
    return start


def _near(rule: Rule, begin: date, wanted: date) -> date:
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


def _next_period(rule: Rule, begin: date) -> date | None:
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


def _in_period(rule: Rule, begin: date, start: date, budget: Budget) -> list[date]:
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


def _in_year(rule: Rule, year: int, start: date) -> list[date]:
    if rule.by_day and not rule.by_month and not rule.by_month_day:
        return _weekdays_in(rule, date(year, 1, 1), 365 + calendar.isleap(year))
    months = rule.by_month or ({start.month} if not rule.by_month_day else range(1, 13))
    return [day for month in sorted(months) for day in _in_month(rule, year, month, start)]


def _in_month(rule: Rule, year: int, month: int, start: date) -> list[date]:
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


def _weekdays_in(rule: Rule, first: date, length: int) -> list[date]:
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


def _in_week(rule: Rule, begin: date, start: date) -> list[date]:
    weekdays = {weekday for _, weekday in rule.by_day} or {start.weekday()}
    days = [begin + timedelta(days=n) for n in range(_WEEK)]
    return [
        day
        for day in days
        if day.weekday() in weekdays and (not rule.by_month or day.month in rule.by_month)
    ]


def _fits(rule: Rule, day: date) -> bool:
    length = calendar.monthrange(day.year, day.month)[1]
    return (
        (not rule.by_month or day.month in rule.by_month)
        and (not rule.by_month_day or bool({day.day, day.day - length - 1} & {*rule.by_month_day}))
        and (not rule.by_day or day.weekday() in {weekday for _, weekday in rule.by_day})
    )
