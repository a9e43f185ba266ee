"""The table of cron cases, each with its reason; and the same against an oracle of its own."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import cron_oracle
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from nomaflow.clock import schedule
from nomaflow.errors import NomaflowError

ROWS = [
    tuple(part.strip() for part in line.split(" | "))
    for line in Path(__file__).with_name("cron_table.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
]
LONGEST_LOOK = timedelta(days=1_000)
"""How far the oracle, which lists every day, is asked to look."""


def test_the_table_is_whole():
    assert len(ROWS) >= 150
    assert len({row[:3] for row in ROWS}) == len(ROWS)
    assert all(why for *_, why in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]} {row[1]} {row[2][:10]}" for row in ROWS])
def test_the_next_fires(row):
    expression, zone, after, expected, _why = row
    wanted = [datetime.fromisoformat(fire) for fire in expected.split()]
    start = datetime.fromisoformat(after)
    found = schedule.upcoming(expression, zone, start, len(wanted))
    assert [f.astimezone(ZoneInfo(zone)).isoformat() for f in found] == expected.split()
    if wanted[-1] - start < LONGEST_LOOK:
        assert cron_oracle.fires(expression, zone, start, wanted[-1]) == found


def field(low, high, *, most=4):
    number = st.integers(low, high)
    pair = st.tuples(number, number).filter(lambda p: p[0] < p[1])
    term = st.one_of(
        number.map(str),
        pair.map(lambda p: f"{p[0]}-{p[1]}"),
        st.tuples(pair, st.integers(1, 5)).map(lambda p: f"{p[0][0]}-{p[0][1]}/{p[1]}"),
        number.filter(lambda n: n < high).map(lambda n: f"{n}/3"),
    )
    star = st.sampled_from(["*", "*/2", "*/3"])
    return st.one_of(star, term, st.lists(term, min_size=2, max_size=most).map(",".join))


days = st.one_of(st.just("*"), field(1, 31), st.sampled_from(["L", "LW", "1,L", "15,LW"]))
weekdays = st.one_of(
    st.just("*"),
    field(0, 7),
    st.sampled_from(["5L", "0L", "MONL", "1#1", "5#5", "3#1,3#3", "SUN#2", "MON-FRI"]),
)
months = st.one_of(st.just("*"), field(1, 12), st.sampled_from(["FEB", "JAN-MAR", "mar,OCT"]))
zones = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Santiago",
        "Africa/Cairo",
        "Australia/Lord_Howe",
        "Antarctica/Troll",
        "Pacific/Auckland",
        "Asia/Kathmandu",
    ]
)
changes = st.sampled_from(
    [
        "2026-03-29T01:00Z",
        "2026-10-25T01:00Z",
        "2026-03-08T07:00Z",
        "2026-11-01T06:00Z",
        "2026-04-05T03:00Z",
        "2026-09-06T04:00Z",
        "2026-04-23T22:00Z",
        "2026-10-29T21:00Z",
        "2026-10-03T15:30Z",
        "2026-04-04T15:00Z",
    ]
).map(datetime.fromisoformat)
nights = st.tuples(changes, st.integers(-100_000, 20_000)).map(
    lambda pair: pair[0] + timedelta(seconds=pair[1])
)
instants = nights | st.datetimes(datetime(2020, 1, 1), datetime(2032, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(tzinfo=UTC)
)


@settings(max_examples=150, deadline=None)
@given(
    fields=st.tuples(field(0, 59), field(0, 23), days, months, weekdays),
    zone=zones,
    after=instants,
)
def test_no_fire_is_early_late_or_passed_over(fields, zone, after):
    expression = " ".join(fields)
    try:
        cron = schedule.parse(expression)
    except NomaflowError:
        reject()  # 30 February and the like: it never comes
    at, found = after, []
    for _ in range(4):
        fire = cron.next_after(at, zone)
        assert fire is not None
        assert fire > at
        found.append(fire)
        at = fire
    if at - after < timedelta(days=120):
        assert cron_oracle.fires(expression, zone, after, at) == found


@settings(max_examples=60, deadline=None)
@given(second=field(0, 59, most=2), minute=field(0, 59, most=2), zone=zones, after=instants)
def test_seconds_as_well(second, minute, zone, after):
    expression = f"{minute} * * * * {second}"
    found = schedule.upcoming(expression, zone, after, 5)
    assert cron_oracle.fires(expression, zone, after, found[-1]) == found
