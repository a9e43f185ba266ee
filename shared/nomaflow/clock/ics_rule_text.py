"""Reads the text of a recurrence rule of RFC 5545, as far as whole days need it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import NoReturn

from nomaflow.errors import Code, NomaflowError

_MOST = 9_999
_LONGEST = 500
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


@dataclass(frozen=True, slots=True)
class Rule:
    """What of a rule decides about days."""

    frequency: str
    interval: int = 1
    count: int | None = None
    until: date | None = None
    week_start: int = 0
    by_day: tuple[tuple[int, int], ...] = ()  # (which, 0 for each; weekday)
    by_month: frozenset[int] = frozenset()
    by_month_day: tuple[int, ...] = ()
    by_position: tuple[int, ...] = ()


def parse(text: str) -> Rule:
    """Read a rule; NomaflowError INVALID says what of it cannot be read."""
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
    return Rule(
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
