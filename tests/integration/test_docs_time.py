"""The tables of both nights in docs/explanation/time.md equal what the code does."""

import re
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path

import pytest

from nomaflow.clock import schedule

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "time.md"
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \|([^|]*)\|", re.MULTILINE)


def rows(day):
    """The table after the sentence that names the night."""
    text = PAGE.read_text(encoding="utf-8")
    part = re.split(rf"^The night of {day}[^\n]*\n", text, flags=re.MULTILINE)[1]
    table = re.match(r"(\s*\|[^\n]*\n)+", part)
    return [
        pytest.param(night(day), *found, id=f"{day} {found[0]}") for found in ROW.findall(table[0])
    ]


def night(day):
    return datetime.strptime(day, "%d %B %Y").replace(tzinfo=UTC) - timedelta(hours=1)


ROWS = [row for day in ("29 March 2026", "25 October 2026") for row in rows(day)]


@pytest.mark.parametrize(("begin", "expression", "clock", "real"), ROWS)
def test_a_row_of_the_night_is_what_happens(begin, expression, clock, real):
    coming = schedule.upcoming(expression, "Europe/Paris", begin - timedelta(seconds=1), 100)
    fires = list(takewhile(lambda at: at < begin + timedelta(hours=5), coming))
    told = re.findall(r"\d\d:\d\d", real)
    shown = [at.strftime("%H:%M") for at in fires]
    assert set(told) <= set(shown)
    if schedule.parse(expression).is_fixed or not told or expression.split()[1] == "2":
        assert shown == told
    local = [at.astimezone(schedule.zone("Europe/Paris")).strftime("%H:%M") for at in fires]
    assert set(re.findall(r"\d\d:\d\d", clock)) <= set(local)


def test_both_tables_are_there():
    assert len(ROWS) >= 11
