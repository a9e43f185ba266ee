"""When a cron expression fires, worked out from the definition: every matching day, hour, minute.

Shares no code with the product. Slow and plain: it lists each wall time that matches, and asks of
each which instants show it.
"""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MONTHS = {name.upper(): n for n, name in enumerate(calendar.month_abbr) if name}
DAYS = dict(zip(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), range(7), strict=True))


def fires(expression: str, zone: str, after: datetime, until: datetime) -> list[datetime]:
    """Every fire in (after, until], in UTC and in order."""
    text = ALIASES.get(expression.lower(), expression)
    minute, hour, day, month, weekday, *rest = text.upper().split()
    place = ZoneInfo(zone)
    follows_real_time = minute.startswith("*") or hour.startswith("*")
    minutes, hours = numbers(minute, 0, 59), numbers(hour, 0, 23)
    seconds = numbers(rest[0], 0, 59) if rest else [0]
    months = numbers(month, 1, 12, MONTHS)
    found: set[datetime] = set()
    # A fixed time may be moved by a gap, which in Samoa was a whole day long.
    slack = timedelta(hours=3) if follows_real_time else timedelta(days=3)
    low, high = (m.astimezone(place).replace(tzinfo=None, fold=0) for m in (after, until))
    low, high = low - slack, high + slack
    hour_of_day = low.replace(minute=0, second=0, microsecond=0)
    while hour_of_day <= high:
        today = hour_of_day.date()
        if hour_of_day.hour in hours and today.month in months and on_day(today, day, weekday):
            for m in minutes:
                for s in seconds:
                    wall = hour_of_day.replace(minute=m, second=s)
                    found.update(instants(wall, place, follows_real_time))
        hour_of_day += timedelta(hours=1)
    return sorted(fire for fire in found if after < fire <= until)


def instants(wall: datetime, place: ZoneInfo, follows_real_time: bool) -> set[datetime]:
    """The instants at which a matching wall time fires."""
    shown = sorted(
        {
            instant
            for fold in (0, 1)
            if (instant := wall.replace(tzinfo=place, fold=fold).astimezone(UTC))
            .astimezone(place)
            .replace(tzinfo=None, fold=0)
            == wall
        }
    )
    if follows_real_time:
        return set(shown)
    return {shown[0]} if shown else {end_of_gap(wall, place)}


def end_of_gap(wall: datetime, place: ZoneInfo) -> datetime:
    """The first instant whose wall time is past the one that is never shown, to the second."""
    low = wall.replace(tzinfo=UTC) - timedelta(days=2)
    high = low + timedelta(days=4)
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if middle.astimezone(place).replace(tzinfo=None) > wall:
            high = middle
        else:
            low = middle
    return high


def on_day(today: date, day: str, weekday: str) -> bool:
    """Both fields said in full: either is enough. One that begins with a star: both must hold."""
    by_date = any(day_matches(today, term) for term in day.split(","))
    by_weekday = any(weekday_matches(today, term) for term in weekday.split(","))
    if day.startswith("*") or weekday.startswith("*"):
        return by_date and by_weekday
    return by_date or by_weekday


def day_matches(today: date, term: str) -> bool:
    length = calendar.monthrange(today.year, today.month)[1]
    if term == "L":
        return today.day == length
    if term == "LW":
        last = date(today.year, today.month, length)
        while last.isoweekday() > 5:
            last -= timedelta(days=1)
        return today == last
    return today.day in numbers(term, 1, 31)


def weekday_matches(today: date, term: str) -> bool:
    number = today.isoweekday() % 7
    length = calendar.monthrange(today.year, today.month)[1]
    if term.endswith("L"):
        return number == day_number(term[:-1]) and today.day > length - 7
    if "#" in term:
        name, _, nth = term.partition("#")
        return number == day_number(name) and (today.day - 1) // 7 + 1 == int(nth)
    return number in {n % 7 for n in numbers(term, 0, 7 if term[0] != "*" else 6, DAYS)}


def day_number(text: str) -> int:
    return (DAYS[text] if text in DAYS else int(text)) % 7


def numbers(field: str, low: int, high: int, names: dict[str, int] | None = None) -> list[int]:
    """The values of a field of lists, ranges and steps."""
    named = names or {}
    found: set[int] = set()
    for term in field.split(","):
        body, slash, step = term.partition("/")
        if body == "*":
            first, last = low, high
        else:
            start, dash, end = body.partition("-")
            first = named[start] if start in named else int(start)
            last = first
            if dash:
                last = named[end] if end in named else int(end)
            elif slash:
                last = high
        found.update(range(first, last + 1, int(step) if slash else 1))
    return sorted(found)
