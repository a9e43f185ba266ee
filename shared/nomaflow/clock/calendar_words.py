"""The dates a job may name, as text, for a given instant in the job's own zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta


def _day(shift: int) -> Callable[[datetime], str]:
    return lambda now: (now.date() + timedelta(days=shift)).isoformat()


def _weekday(number: int) -> Callable[[datetime], str]:
    return lambda now: (now.date() + timedelta(days=number - now.weekday())).isoformat()


def _month_first(day: date) -> date:
    return day.replace(day=1)


def _month_last(day: date) -> date:
    return _month_first(_month_first(day) + timedelta(days=32)) - timedelta(days=1)


# `month.previous` is a period, YYYY-MM, as seed 002 passes it on; weeks begin on Monday.
WORDS: dict[str, Callable[[datetime], str]] = {
    "today": _day(0),
    "yesterday": _day(-1),
    "now": lambda now: now.isoformat(timespec="seconds"),
    "week.monday": _weekday(0),
    "week.sunday": _weekday(6),
    "month.first": lambda now: _month_first(now.date()).isoformat(),
    "month.last": lambda now: _month_last(now.date()).isoformat(),
    "month.previous": lambda now: (_month_first(now.date()) - timedelta(days=1)).strftime("%Y-%m"),
    "month.current": lambda now: now.strftime("%Y-%m"),
    "year": lambda now: now.strftime("%Y"),
}
