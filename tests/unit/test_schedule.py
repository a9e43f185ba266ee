"""Cron expressions, zones and intervals: next fires against a table and against brute force."""

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomaflow import schedule
from nomaflow.errors import Code, NomaflowError


def at(text):
    return datetime.fromisoformat(text).astimezone(UTC)


def fires(expression, zone, after, count=3):
    return [
        fire.astimezone(ZoneInfo(zone)).isoformat()
        for fire in schedule.upcoming(expression, zone, at(after), count)
    ]


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("15 * * * *", "2026-01-01T00:00Z", ["00:15", "01:15", "02:15"]),  # S01
        ("*/20 9-10 * * *", "2026-01-01T08:59Z", ["09:00", "09:20", "09:40"]),
        ("5,15-20/5 9 * * *", "2026-01-01T00:00Z", ["09:05", "09:15", "09:20"]),  # S05
        ("@hourly", "2026-01-01T00:00Z", ["01:00", "02:00", "03:00"]),  # S06
        ("15 * * * *", "2026-01-01T00:15Z", ["01:15", "02:15", "03:15"]),
        ("15 * * * *", "2026-01-01T00:14:59.999999Z", ["00:15", "01:15", "02:15"]),
    ],
)
def test_minutes_and_hours(expression, after, expected):
    times = schedule.upcoming(expression, "UTC", at(after), 3)
    assert [fire.strftime("%H:%M") for fire in times] == expected
    assert all(fire.tzinfo is UTC for fire in times)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * * 30", ["00:00:30", "00:01:30", "00:02:30"]),  # S02: seconds are last
        ("30 15 10 * * *", ["15:30:00", "15:30:01", "15:30:02"]),
        ("* * * * * */20", ["00:00:20", "00:00:40", "00:01:00"]),
        ("* * * * * *", ["00:00:01", "00:00:02", "00:00:03"]),
    ],
)
def test_a_sixth_field_is_the_seconds(expression, expected):
    times = schedule.upcoming(expression, "UTC", at("2026-01-01T00:00Z"), 3)
    assert [fire.strftime("%H:%M:%S") for fire in times] == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 9 * * 1", ["2026-01-05", "2026-01-12", "2026-01-19"]),  # S03: 1 is Monday
        ("30 9 * * 0", ["2026-01-04", "2026-01-11", "2026-01-18"]),
        ("30 9 * * 7", ["2026-01-04", "2026-01-11", "2026-01-18"]),
        ("30 9 * * sun", ["2026-01-04", "2026-01-11", "2026-01-18"]),
        ("0 0 * * 1-5", ["2026-01-01", "2026-01-02", "2026-01-05"]),
        ("0 9 15 * 1", ["2026-01-05", "2026-01-12", "2026-01-15"]),  # S04: either day
        ("0 9 1-7 * *", ["2026-01-01", "2026-01-02", "2026-01-03"]),
        ("0 0 L * *", ["2026-01-31", "2026-02-28", "2026-03-31"]),
        ("0 0 LW * *", ["2026-01-30", "2026-02-27", "2026-03-31"]),
        ("0 0 * * 5L", ["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("0 0 * * friL", ["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("0 0 * * 1#2", ["2026-01-12", "2026-02-09", "2026-03-09"]),
        ("0 0 29 2 *", ["2028-02-29", "2032-02-29", "2036-02-29"]),
        ("0 0 1 feb,DEC *", ["2026-02-01", "2026-12-01", "2027-02-01"]),
        ("@weekly", ["2026-01-04", "2026-01-11", "2026-01-18"]),
        ("@monthly", ["2026-01-01", "2026-02-01", "2026-03-01"]),
        ("@yearly", ["2026-01-01", "2027-01-01", "2028-01-01"]),
        ("@daily", ["2026-01-01", "2026-01-02", "2026-01-03"]),
    ],
)
def test_days(expression, expected):
    times = schedule.upcoming(expression, "UTC", at("2025-12-31T23:59Z"), 3)
    assert [fire.date().isoformat() for fire in times] == expected


# Expression, zone, after, the next two; Debian cron's rule, measured on the Berlin nights of 2026:
# 29 March 02:00 -> 03:00, 25 October 03:00 -> 02:00. Cairo skips midnight, Lord Howe half an hour.
NIGHTS = """
30 2 * * * | Europe/Berlin | 03-28T12:00Z | 03-29T03:00:00+02:00 03-30T02:30:00+02:00
0,30 2 * * * | Europe/Berlin | 03-28T12:00Z | 03-29T03:00:00+02:00 03-30T02:00:00+02:00
30 2,3 * * * | Europe/Berlin | 03-28T12:00Z | 03-29T03:00:00+02:00 03-29T03:30:00+02:00
30 2 * * * 15 | Europe/Berlin | 03-28T12:00Z | 03-29T03:00:00+02:00 03-30T02:30:15+02:00
*/20 2 * * * | Europe/Berlin | 03-28T12:00Z | 03-30T02:00:00+02:00 03-30T02:20:00+02:00
0 * * * * | Europe/Berlin | 03-29T00:00Z | 03-29T03:00:00+02:00 03-29T04:00:00+02:00
30 2 * * * | Europe/Berlin | 10-25T00:00Z | 10-25T02:30:00+02:00 10-26T02:30:00+01:00
30 2 * * * | Europe/Berlin | 10-25T01:10Z | 10-26T02:30:00+01:00 10-27T02:30:00+01:00
30 2 * * * 15 | Europe/Berlin | 10-25T00:00Z | 10-25T02:30:15+02:00 10-26T02:30:15+01:00
0 * * * * | Europe/Berlin | 10-24T23:59Z | 10-25T02:00:00+02:00 10-25T02:00:00+01:00
*/30 2 * * * | Europe/Berlin | 10-25T00:29Z | 10-25T02:30:00+02:00 10-25T02:00:00+01:00
0 2 * * * | Europe/Paris | 01-01T12:00Z | 01-02T02:00:00+01:00 01-03T02:00:00+01:00
0 2 * * * | Europe/Paris | 07-01T12:00Z | 07-02T02:00:00+02:00 07-03T02:00:00+02:00
30 2 * * * | America/New_York | 03-07T12:00Z | 03-08T03:00:00-04:00 03-09T02:30:00-04:00
30 1 * * * | America/New_York | 11-01T04:00Z | 11-01T01:30:00-04:00 11-02T01:30:00-05:00
15 2 * * * | Australia/Lord_Howe | 10-03T06:00Z | 10-04T02:30:00+11:00 10-05T02:15:00+11:00
* 3 * * * | Australia/Lord_Howe | 10-03T15:00Z | 10-04T03:00:00+11:00 10-04T03:01:00+11:00
0 0 * * * | Africa/Cairo | 04-23T12:00Z | 04-24T01:00:00+03:00 04-25T00:00:00+03:00
*/30 0 * * * | Africa/Cairo | 04-23T12:00Z | 04-25T00:00:00+03:00 04-25T00:30:00+03:00
*/30 * * * * | Africa/Cairo | 04-23T21:30Z | 04-24T01:00:00+03:00 04-24T01:30:00+03:00
30 2 * * * | Asia/Kolkata | 03-28T12:00Z | 03-29T02:30:00+05:30 03-30T02:30:00+05:30
"""


@pytest.mark.parametrize("row", NIGHTS.split("\n")[1:-1])
def test_nights_when_the_clock_changes(row):
    expression, zone, after, expected = (part.strip() for part in row.split("|"))
    assert fires(expression, zone, f"2026-{after}", 2) == [f"2026-{f}" for f in expected.split()]


REFUSED = [
    ("0 25 * * *", "hour `25` must be 0 to 23 (column 3)"),
    ("60 * * * *", "minute `60` must be 0 to 59 (column 1)"),
    ("*/0 * * * *", "the step after `/` must be 1 or more (column 1)"),
    ("*/90 * * * *", 'use an interval, as `every = "90m"`'),
    ("", "it has 0 fields"),
    ("* * * *", "it has 4 fields, not 5 or 6"),
    ("* * * * * * 2026", "a year is not one of them"),
    ("0 22-4 * * *", "hour `22-4` runs backwards; write `22-23,0-4` (column 3)"),
    ("0 0 * * sat-sun", "write `6,0` (column 9)"),
    ("0 0 * * fri-mon", "write `5-6,0-1` (column 9)"),
    ("0 0 * 5-5/2 *", "is a single value with a step; write `5` (column 7)"),
    ("0 0 30 2 *", "no date ever matches"),
    ("0 0 31 2,4,6,9,11 *", "no date ever matches"),
    ("0 0 0 * *", "day-of-month `0` must be 1 to 31 (column 5)"),
    ("0 0 * 13 *", "month `13` must be 1 to 12 or JAN-DEC (column 7)"),
    ("0 0 * * 8", "day-of-week `8` must be 0 to 7 or SUN-SAT"),
    ("0 0 * * 5#6", "after `#` comes 1 to 5"),
    ("0 0 15W * *", "day-of-month `15W`"),
    ("0 0 L-3 * *", "day-of-month `L`"),
    ("0 0 ? * *", "`?` is not known; write `*`"),
    ("1,,2 * * * *", "a value is missing around a comma (column 3)"),
    (",1 * * * *", "a value is missing"),
    ("-1 * * * *", "minute ``"),
    ("1-2-3 * * * *", "minute `2-3`"),
    ("1/2/3 * * * *", "the step after `/`"),
    ("*-5 * * * *", "minute `*`"),
    ("a * * * *", "minute `a`"),
    ("H * * * *", "minute `H`"),
    ("@reboot", "`@reboot` is not an alias"),
    ("@every 5m", "use an interval"),
    ("\uff10 0 * * *", "only plain ASCII"),
    ("\u0661 0 * * *", "only plain ASCII"),
    ("0 0\t* * *", "only plain ASCII"),
    ("0 0 * * *\x00", "only plain ASCII"),
    ("*," * 100 + "* * * * *", "longer than 200"),
    ("*," * 50_000, "longer than 200"),
]


@pytest.mark.parametrize(("expression", "why"), REFUSED, ids=[e[:20] for e, _ in REFUSED])
def test_wrong_expressions_are_refused_with_their_place(expression, why):
    with pytest.raises(NomaflowError) as refused:
        schedule.parse(expression)
    assert refused.value.code is Code.INVALID
    assert why in refused.value.message
    assert refused.value.message.startswith("invalid cron `")
    assert len(refused.value.message) < 500


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 2 * * *", "At 02:00 every day"),
        ("15 * * * *", "At minute 15 of every hour"),
        ("30 9 * * 1-5", "At 09:30 on Monday through Friday"),
        ("* * * * * */10", "Every 10th second of every minute"),
        ("@hourly", "At the start of every hour"),
    ],
)
def test_a_schedule_in_words(expression, words):
    assert schedule.parse(expression).describe() == words


def test_a_parsed_expression_is_kept():
    assert schedule.parse("7 7 * * *") is schedule.parse("7 7 * * *")
    assert schedule.parse(" 7 7 * * * ").expression == "7 7 * * *"


def test_the_end_of_time_is_none():
    assert schedule.parse("0 0 1 1 *").next_after(datetime(9999, 6, 1, tzinfo=UTC), "UTC") is None


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Europe/Pari", "did you mean `Europe/Paris`?"),
        ("europe/paris", "did you mean `Europe/Paris`?"),
        ("UTC\0", "did you mean `UTC`?"),
        ("../../etc/passwd", "use an IANA name"),
        ("/etc/localtime", "use an IANA name"),
        ("localtime", ""),
        ("", "use an IANA name"),
        ("x" * 10_000, "use an IANA name"),
    ],
)
def test_unknown_zones(name, hint):
    with pytest.raises(NomaflowError, match="unknown timezone") as refused:
        schedule.zone(name)
    assert hint in refused.value.message
    assert "\0" not in refused.value.message
    assert len(refused.value.message) < 200


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("5m", 300), ("1h", 3600), ("1d", 86400), ("1h30m", 5400), (90, 90)],
)
def test_intervals(text, seconds):
    assert schedule.every_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0s", "-1s", "1e400", "90", "5 m", "1y", "400d", 0, -1, 1e-9, 1e9, 1e400]
)
def test_refused_intervals(text):
    with pytest.raises(NomaflowError, match="interval"):
        schedule.every_seconds(text)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("2025-12-31T00:00Z", "2026-01-01T00:00Z"),
        ("2026-01-01T00:00Z", "2026-01-01T00:10Z"),
        ("2026-01-01T00:09:59Z", "2026-01-01T00:10Z"),
        ("2026-01-01T00:10Z", "2026-01-01T00:20Z"),
    ],
)
def test_the_next_of_an_interval(after, expected):
    assert schedule.next_interval(at("2026-01-01T00:00Z"), 600, at(after)) == at(expected)


# --- brute force: every minute of two days around a change of the clock, looked at one by one.

CHANGES = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-10-03"),
    ("Africa/Cairo", "2026-04-23"),
    ("UTC", "2026-02-28"),
]
MINUTES = 2_880


@cache
def two_days(zone, day):
    start = at(day + "T00:00Z") - timedelta(hours=12)
    instants = [start + timedelta(minutes=n) for n in range(MINUTES)]
    return [(i, i.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)) for i in instants]


def values(field, low, high):
    found = set()
    for term in field.split(","):
        body, _, step = term.partition("/")
        first, _, last = (f"{low}-{high}" if body == "*" else body).partition("-")
        end = int(last or (high if step else first))
        found.update(range(int(first), end + 1, int(step or 1)))
    return found


def matches(expression):
    minute, hour, day, month, weekday = expression.split()
    minutes, hours = values(minute, 0, 59), values(hour, 0, 23)
    days, months = values(day, 1, 31), values(month, 1, 12)
    weekdays = {n % 7 for n in values(weekday, 0, 7)}
    both = day.startswith("*") or weekday.startswith("*")

    def match(wall):
        if wall.minute not in minutes or wall.hour not in hours or wall.month not in months:
            return False
        found = (wall.day in days, wall.isoweekday() % 7 in weekdays)
        return all(found) if both else any(found)

    return match


def brute_force(expression, zone, day):
    """Every fire of the two days, by looking at each minute."""
    match, pairs = matches(expression), two_days(zone, day)
    minute, hour = expression.split()[:2]
    if minute.startswith("*") or hour.startswith("*"):
        return [instant for instant, wall in pairs if match(wall)]
    first = {}
    for instant, wall in pairs:
        first.setdefault(wall, instant)
    found, wall = set(), pairs[0][1]
    while wall <= pairs[-1][1]:
        if match(wall):
            real = wall if wall in first else min(w for w in first if w > wall)
            found.add(first[real])
        wall += timedelta(minutes=1)
    return sorted(found)


def field(low, high):
    number = st.integers(low, high)
    pair = st.tuples(number, number).filter(lambda p: p[0] < p[1])
    term = st.one_of(
        number.map(str),
        pair.map(lambda p: f"{p[0]}-{p[1]}"),
        st.tuples(pair, st.integers(1, 5)).map(lambda p: f"{p[0][0]}-{p[0][1]}/{p[1]}"),
    )
    star = st.sampled_from(["*", "*/2", "*/3"])
    return st.one_of(star, term, st.lists(term, min_size=2, max_size=3).map(",".join))


expressions = st.tuples(
    field(0, 59),
    field(0, 23),
    field(1, 31) | st.just("*"),
    st.just("*"),
    field(0, 7) | st.just("*"),
).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(expression=expressions, change=st.sampled_from(CHANGES), offset=st.integers(0, MINUTES))
def test_next_fires_agree_with_brute_force(expression, change, offset):
    zone, day = change
    start = two_days(zone, day)[0][0] + timedelta(minutes=offset, seconds=30)
    end = two_days(zone, day)[-1][0]
    expected = [fire for fire in brute_force(expression, zone, day) if fire > start][:5]
    got = schedule.upcoming(expression, zone, start, 5)
    assert [fire for fire in got if fire <= end] == expected
    assert all(a < b for a, b in zip([start, *got], got, strict=False))
