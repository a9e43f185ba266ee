"""Says a cron expression in plain words, out of the values that its fields stand for.

Meaning is said, not spelling: `0-59/15` and `*/15` read alike. Days are Debian cron's: with both
day fields restricted either of them fires, unless one of them begins with `*`, which narrows the
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
NTH = ("", "first", "second", "third", "fourth", "fifth")

_LAST = {"L": "the last day", "LW": "the last weekday (Monday to Friday)"}
_MOST_TIMES = 6
_FEWEST = 3  # so many values make a rhythm or a range
_TEENS = range(11, 14)
_LAST_MINUTE = 59


@dataclass(frozen=True, slots=True)
class Field:
    """The values of one field; `step` is their distance when they are evenly spread, else 0."""

    values: tuple[int, ...]
    low: int
    high: int
    starred: bool = False

    @property
    def is_all(self) -> bool:
        """Tell whether every value is meant."""
        return len(self.values) == self.high - self.low + 1

    @property
    def step(self) -> int:
        """The distance of three or more evenly spread values, else 0."""
        distances = {b - a for a, b in pairwise(self.values)}
        even = len(distances) == 1 and (self.starred or len(self.values) >= _FEWEST)
        return distances.pop() if even else 0

    @property
    def is_rhythm(self) -> bool:
        """Tell whether they go on evenly to the field's end."""
        return self.step > 0 and self.values[-1] + self.step > self.high


def describe(seconds_first: str) -> str:
    """Say an expression that `cron_text.read` has checked, in its order of seconds first."""
    second, minute, hour, day, month, weekday = seconds_first.split()
    seconds, minutes, hours = field(second, 0, 59), field(minute, 0, 59), field(hour, 0, 23)
    when = _time(seconds, minutes, hours)
    days = _days(day, weekday, _months(field(_numbers(month, MONTHS, 1), 1, 12)))
    if not days and when.startswith("At ") and not (minutes.is_all or hours.is_all):
        days = "every day"
    return f"{when} {days}".strip()


def field(text: str, low: int, high: int) -> Field:
    """Work out the values of a field of numbers, lists, ranges and steps."""
    values: set[int] = set()
    for part in text.split(","):
        body, _, step = part.partition("/")
        first, dash, last = body.partition("-")
        begin, end = (low, high) if body == "*" else (int(first), int(last) if dash else int(first))
        if step and not dash:
            end = high
        values.update(range(begin, end + 1, int(step or 1)))
    return Field(tuple(sorted(values)), low, high, text.startswith("*"))


def _time(seconds: Field, minutes: Field, hours: Field) -> str:
    few = len(seconds.values) * len(minutes.values) * len(hours.values) <= _MOST_TIMES
    if few:
        return f"At {_listed([_clock(h, m, s) for h, m, s in _times(hours, minutes, seconds)])}"
    if minutes.is_all:
        return _each_minute(seconds) + _in_hours(hours, 0, _LAST_MINUTE)
    said = _of_minutes(minutes, hours)
    return said if seconds.values == (0,) else f"{said}, {_at_seconds(seconds)}"


def _times(hours: Field, minutes: Field, seconds: Field) -> list[tuple[int, int, int | None]]:
    shows = seconds.values != (0,)
    return [
        (h, m, s if shows else None)
        for h in hours.values
        for m in minutes.values
        for s in seconds.values
    ]


def _each_minute(seconds: Field) -> str:
    if seconds.values == (0,):
        return "Every minute"
    if seconds.is_all:
        return "Every second"
    if seconds.is_rhythm and seconds.values[0] == 0 and 60 % seconds.step == 0:
        return f"Every {seconds.step} seconds"
    return f"{_at_seconds(seconds).capitalize()} of every minute"


def _at_seconds(seconds: Field) -> str:
    return f"at second{_s(seconds)} {_numbered(seconds)}"


def _of_minutes(minutes: Field, hours: Field) -> str:
    first, last = minutes.values[0], minutes.values[-1]
    if minutes.is_rhythm:
        said = f"Every {minutes.step} minutes"
        if first == 0 and 60 % minutes.step == 0:
            return said + _in_hours(hours, first, last)
        said += f" of each hour, from minute {first} to {last}"
        return said if hours.is_all else f"{said},{_in_hours(hours, first, last)}"
    if len(minutes.values) > 1:
        said = f"At minutes {_numbered(minutes)}"
        return said + (" of every hour" if hours.is_all else f" of the hours {_numbered(hours)}")
    if hours.is_all:
        return "At the start of every hour" if first == 0 else f"At minute {first} of every hour"
    if hours.step:
        often = "Every hour" if hours.step == 1 else f"Every {hours.step} hours"
        return f"{often} from {_clock(hours.values[0], first)} to {_clock(hours.values[-1], last)}"
    return f"At minute {first} of the hours {_numbered(hours)}"


def _in_hours(hours: Field, first: int, last: int) -> str:
    if hours.is_all:
        return ""
    if len(hours.values) == 1 or hours.step == 1:
        begin, end = _clock(hours.values[0], first), _clock(hours.values[-1], last)
        return f" from {begin} to {end}"
    return f" in the hours {_numbered(hours)}"


def _days(day: str, weekday: str, months: str) -> str:
    of = months or "the month"
    by_day = _by_day(day, of)
    by_weekday = _by_weekday(weekday, of)
    if by_day and by_weekday:
        if "*" in (day[0], weekday[0]):
            return f"{by_day}, where that is {by_weekday.removeprefix('on ')}"
        both = f"{by_day} and {by_weekday}"
        return both if not months or months in by_weekday else f"{both} in {months}"
    if by_day or by_weekday:
        found = by_day or by_weekday
        return found if not months or months in found else f"{found} in {months}"
    return f"every day in {months}" if months else ""


def _by_day(text: str, of: str) -> str:
    parts = text.split(",")
    plain = [part for part in parts if not part.startswith("L")]
    days = field(",".join(plain), 1, 31) if plain else Field((), 1, 31)
    if days.is_all:
        return ""
    said = []
    if days.step == 1:
        said = [f"each day from the {_ordinal(days.values[0])} to the {_ordinal(days.values[-1])}"]
    elif days.is_rhythm:
        begin = f" from the {_ordinal(days.values[0])}" if days.values[0] > 1 else ""
        said = [f"every {_ordinal(days.step)} day{begin}"]
    elif days.values:
        said = [f"the {_listed([_ordinal(day) for day in days.values])}"]
    said += [_LAST[part] for part in parts if part.startswith("L")]
    return f"on {_listed(said)} of {of}"


def _by_weekday(text: str, of: str) -> str:
    parts = text.split(",")
    plain = [_numbers(part, WEEKDAYS, 0) for part in parts if "#" not in part and part[-1] != "L"]
    days = {value % 7 for value in field(",".join(plain), 0, 7).values} if plain else set()
    if days == set(range(7)):
        return ""
    counted = [_nth(part) for part in parts if "#" in part or part[-1] == "L"]
    said = [f"{_listed(counted)} of {of}"] if counted else []
    monday_first = sorted(days, key=lambda day: (day - 1) % 7)
    if len(monday_first) >= _FEWEST and _is_run(monday_first):
        names = f"from {WEEKDAYS[monday_first[0]]} to {WEEKDAYS[monday_first[-1]]}"
        return f"{names} and on {said[0]}" if said else names
    return f"on {_listed([*(WEEKDAYS[day] for day in monday_first), *said])}"


def _is_run(days: Sequence[int]) -> bool:
    return all((b - a) % 7 == 1 for a, b in pairwise(days))


def _nth(part: str) -> str:
    name, hash_sign, nth = part.partition("#")
    number = int(_numbers(name if hash_sign else name[:-1], WEEKDAYS, 0))
    return f"the {NTH[int(nth)] if hash_sign else 'last'} {WEEKDAYS[number % 7]}"


def _months(months: Field) -> str:
    if months.is_all:
        return ""
    if months.step == 1:
        return f"{MONTHS[months.values[0] - 1]} to {MONTHS[months.values[-1] - 1]}"
    return _listed([MONTHS[month - 1] for month in months.values])


def _numbers(text: str, names: Sequence[str], low: int) -> str:
    """Write names of months or days as their numbers."""
    for at, name in enumerate(names):
        text = text.replace(name[:3].upper(), str(at + low))
    return text


def _numbered(values: Field) -> str:
    """Write numbers, those in a row as a span."""
    spans: list[list[int]] = []
    for value in values.values:
        if spans and value == spans[-1][-1] + 1:
            spans[-1].append(value)
        else:
            spans.append([value])
    words: list[str] = []
    for span in spans:
        long = len(span) >= _FEWEST
        words += [f"{span[0]} to {span[-1]}"] if long else [str(value) for value in span]
    return _listed(words)


def _s(values: Field) -> str:
    return "s" if len(values.values) > 1 else ""


def _clock(hour: int, minute: int, second: int | None = None) -> str:
    return f"{hour:02}:{minute:02}" + ("" if second is None else f":{second:02}")


def _ordinal(number: int) -> str:
    if number % 100 in _TEENS:
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
