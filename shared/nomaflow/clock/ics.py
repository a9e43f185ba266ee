"""Reads the whole days of an iCalendar file (RFC 5545): holidays, each with its name.

Whole days only: an event with hours is refused, since half a day cannot close a calendar. What
cannot be read is refused with its line, and never skipped: a holiday lost in silence is a job
run on the wrong day.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import NoReturn

from nomaflow.clock import ics_rule
from nomaflow.errors import Code, NomaflowError

LARGEST = 1_000_000
MOST_EVENTS = 5_000
MOST_DAYS = 20_000
LONGEST_EVENT = 366

_LONGEST_NAME = 80
_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})", re.ASCII)
_MIDNIGHT = re.compile(r"(\d{8})T000000", re.ASCII)
_TIMED = re.compile(r"\d{8}T\d{6}Z?", re.ASCII)
_DURATION = re.compile(r"\+?P(?:(\d{1,4})W|(\d{1,5})D)(?:T0+[HMS])*", re.ASCII)
_ESCAPE = re.compile(r"\\([\\;,nN])")
_BEGINS = re.compile(r"\ufeff?\s*BEGIN:VCALENDAR\s", re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')


@dataclass(slots=True)
class _Event:
    """What one VEVENT says, with the line it began at."""

    line: int
    summary: str = ""
    uid: str = ""
    starts: date | None = None
    ends: date | None = None
    length: int | None = None
    rule: str | None = None
    replaces: date | None = None
    more: list[date] = field(default_factory=list)
    without: set[date] = field(default_factory=set)
    cancelled: bool = False

    @property
    def days(self) -> int:
        """How many days each occurrence lasts."""
        if self.length is not None:
            return self.length
        if self.starts is not None and self.ends is not None:
            return max(1, (self.ends - self.starts).days)
        return 1


def days(text: str, first: date, last: date) -> dict[date, str]:
    """Return the days from `first` to `last` that events cover, in order, with their names.

    NomaflowError INVALID says what cannot be read, its path holds the number of the line;
    LIMIT_EXCEEDED a file that is too large, or rules that would take too long to work out.
    """
    if len(text) > LARGEST:
        _too_much(f"the iCalendar file is larger than {LARGEST // 1_000} kB")
    events = [event for event in _events(text) if not event.cancelled or event.replaces]
    replaced: dict[str, set[date]] = {}
    for event in events:
        if event.replaces is not None:
            replaced.setdefault(event.uid, set()).add(event.replaces)
    budget = ics_rule.Budget()
    found: dict[date, str] = {}
    for event in events:
        for day in _occurrences(event, replaced, first, last, budget):
            budget.spend(event.days)
            for n in range(event.days):
                covered = day + timedelta(days=n)
                if first <= covered <= last:
                    found.setdefault(covered, event.summary)
        if len(found) > MOST_DAYS:
            _too_much(f"the iCalendar file closes more than {MOST_DAYS} days")
    return dict(sorted(found.items()))


def _occurrences(
    event: _Event,
    replaced: dict[str, set[date]],
    first: date,
    last: date,
    budget: ics_rule.Budget,
) -> Iterator[date]:
    if event.cancelled or event.starts is None:
        return
    without = set(event.without)
    if event.replaces is None:
        without |= replaced.get(event.uid, set())
    try:
        begin = max(first, date(2, 1, 1)) - timedelta(days=LONGEST_EVENT)
        starts = list(ics_rule.dates(event.rule, event.starts, begin, last, budget))
    except NomaflowError as error:
        raise NomaflowError(error.code, error.message, (str(event.line),)) from None
    yield from (day for day in (*starts, *event.more) if day not in without and day <= last)


def _events(text: str) -> Iterator[_Event]:
    if not _BEGINS.match(text):
        _refuse(1, "this is not an iCalendar file; one begins with BEGIN:VCALENDAR")
    if text.upper().count("BEGIN:VEVENT") > MOST_EVENTS:
        _too_much(f"the iCalendar file has more than {MOST_EVENTS} events")
    inside: list[str] = []
    event = _Event(0)
    number = 0
    for number, line in _lines(text):
        name, parameters, value = _property(number, line)
        if name == "BEGIN":
            inside.append(value.strip().upper())
            event = _Event(number) if inside[-1] == "VEVENT" else event
        elif name == "END":
            yield from [_checked(event)] if _ended(inside, number, value) == "VEVENT" else []
        elif inside[-1:] == ["VEVENT"]:
            _note(event, number, name, parameters, value)
    if inside:
        _refuse(number, f"the file ends inside `{inside[-1][:40]}`; it seems to be cut off")


def _ended(inside: list[str], line: int, value: str) -> str:
    ended = value.strip().upper()
    if not inside or inside.pop() != ended:
        _refuse(line, f"`END:{_named(value)}` ends nothing that was begun")
    return ended


def _note(  # noqa: C901  a case for each property
    event: _Event, line: int, name: str, parameters: str, value: str
) -> None:
    match name:
        case "SUMMARY":
            event.summary = _named(value)
        case "UID":
            event.uid = value[:500]
        case "DTSTART":
            event.starts = _whole_day(event, line, value)
        case "DTEND":
            event.ends = _whole_day(event, line, value)
        case "DURATION":
            event.length = _length(event, line, value)
        case "RRULE":
            if event.rule is not None:
                _refuse(line, "one event has two RRULE lines; write two events")
            event.rule = value.strip()
        case "RDATE" if "PERIOD" not in parameters:
            event.more += [_whole_day(event, line, each) for each in value.split(",")]
        case "EXDATE":
            event.without |= {_any_day(line, each) for each in value.split(",")}
        case "RECURRENCE-ID" if "RANGE" not in parameters:
            event.replaces = _any_day(line, value)
        case "STATUS":
            event.cancelled = value.strip().upper() == "CANCELLED"
        case "EXRULE" | "RDATE" | "RECURRENCE-ID":
            _refuse(line, f"`{name}` in this form cannot be read; write the days as events")


def _checked(event: _Event) -> _Event:
    if event.starts is None:
        _refuse(event.line, f"{_called(event)} has no DTSTART")
    if event.ends is not None and event.ends < event.starts:
        _refuse(event.line, f"{_called(event)} ends before it begins")
    if event.days > LONGEST_EVENT:
        _refuse(event.line, f"{_called(event)} lasts longer than {LONGEST_EVENT} days")
    return event


def _whole_day(event: _Event, line: int, value: str) -> date:
    text = value.strip()
    if _TIMED.fullmatch(text) and not _MIDNIGHT.fullmatch(text):
        _refuse(
            line,
            f"{_called(event)} has hours ({text}), and only whole days close a calendar; use "
            "`windows` for hours, or take the event out of the file",
        )
    return _any_day(line, text)


def _any_day(line: int, value: str) -> date:
    text = value.strip()
    match = _DATE.fullmatch(text[:8])
    if match is None or not (len(text) == len("20261225") or _TIMED.fullmatch(text)):
        _refuse(line, f"`{text[:40]}` is not a date such as 20261225")
    try:
        return date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        _refuse(line, f"`{text[:40]}` is a day that does not exist")


def _length(event: _Event, line: int, value: str) -> int:
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        _refuse(
            line,
            f"{_called(event)} lasts `{value.strip()[:40]}`, and only whole days or weeks (P1D, "
            "P2W) close a calendar",
        )
    weeks, whole = match.groups()
    return max(1, int(weeks) * 7 if weeks else int(whole))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each content line with the number of its first line; folded lines are joined."""
    whole: list[str] = []
    began = 0
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        bare = line.removesuffix("\r")
        if bare[:1] in (" ", "\t") and whole:
            whole.append(bare[1:])
            continue
        if whole and (joined := "".join(whole)).strip():
            yield began, joined
        whole, began = [bare], number
    if whole and (joined := "".join(whole)).strip():
        yield began, joined


def _property(line: int, text: str) -> tuple[str, str, str]:
    """Split `NAME;PARAMETER=x:value`; a colon between quotation marks belongs to a parameter."""
    blank = _QUOTED.sub(lambda m: "_" * len(m.group()), text) if '"' in text else text
    colon = blank.find(":")
    if colon < 0:
        _refuse(line, f"`{_named(text)}` is no line of an iCalendar file: it has no colon")
    name, _, parameters = text[:colon].partition(";")
    return name.strip().upper(), parameters.upper(), text[colon + 1 :]


def _named(value: str) -> str:
    plain = _ESCAPE.sub(lambda m: " " if m[1] in "nN" else m[1], value[: _LONGEST_NAME * 2])
    words = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
    return words if len(words) <= _LONGEST_NAME else words[:_LONGEST_NAME] + "..."


def _called(event: _Event) -> str:
    return f"the event `{event.summary}`" if event.summary else "an event"


def _refuse(line: int, message: str) -> NoReturn:
    raise NomaflowError(Code.INVALID, message, (str(line),))


def _too_much(message: str) -> NoReturn:
    raise NomaflowError(Code.LIMIT_EXCEEDED, message)
