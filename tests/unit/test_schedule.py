"""Cron expressions, zones and intervals: what is read, what is refused, and the words for it."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from nomaflow.clock import schedule
from nomaflow.errors import Code, NomaflowError

MINUTE = timedelta(minutes=1)


def at(text):
    return datetime.fromisoformat(text).astimezone(UTC)


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
        ("30 9 * * 1-5", "At 09:30 from Monday to Friday"),
        ("* * * * * */10", "Every 10 seconds"),
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


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "Every second"),
        (90, "Every 90 seconds"),
        (301, "Every 5 minutes 1 second"),
        (3_600, "Every hour"),
        (5_400, "Every 90 minutes"),
        (86_400, "Every day"),
        (108_000, "Every 30 hours"),
        (3_661, "Every 1 hour 1 minute 1 second"),
        (1.5, "Every 1.5 seconds"),
    ],
)
def test_an_interval_in_words(seconds, words):
    assert schedule.describe_interval(seconds) == words


@pytest.mark.parametrize(
    ("expression", "after", "said"),
    [
        ("30 2 * * *", "2026-03-28T12:00", "02:30 does not exist on 2026-03-29"),
        ("0,30 2 * * *", "2026-03-28T12:00", "02:00 does not exist on 2026-03-29"),
        ("30 2 * * *", "2026-10-24T12:00", "the clock shows 02:30 twice on 2026-10-25"),
        ("30 2 * * *", "2026-06-01T12:00", None),
        ("0 3 * * *", "2026-03-28T12:00", None),
        ("*/10 2 * * *", "2026-10-24T12:00", None),
        ("0-59 0-5 * * * *", "2026-03-29T00:59:58", None),
    ],
)
def test_a_change_of_the_clock_is_remarked_where_it_touches_a_fire(expression, after, said):
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    (fire,) = schedule.upcoming(expression, "Europe/Paris", moment, 1)
    remark = schedule.parse(expression).remark(fire, "Europe/Paris")
    assert remark is None if said is None else (remark or "").startswith(said)


@pytest.mark.parametrize(
    "expression",
    ["* * * * *", "30 2 * * *", "*/20 1-3 * * *", "0 0 1 * *", "0 12 * * 1-5", "7 2,14 * * *"],
)
@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Paris", "Australia/Lord_Howe", "America/St_Johns", "Africa/Casablanca"]
)
@pytest.mark.parametrize(
    "start", ["2026-03-20T00:00Z", "2026-10-20T00:00Z", "2026-02-10T00:00:30Z"]
)
def test_walking_and_asking_for_each_are_the_same(expression, zone, start):
    cron = schedule.parse(expression)
    walked = list(islice(cron.walk(at(start), zone), 1500 if expression[0] == "*" else 40))
    here = at(start)
    for fire in walked[:40] + walked[-5:] if expression[0] == "*" else walked:
        if fire is walked[-5]:
            here = walked[-6]
        assert cron.next_after(here, zone) == fire
        here = fire
    assert walked == sorted(set(walked))


def test_walking_ends_with_the_calendar():
    cron = schedule.parse("0 0 1 1 *")
    assert len(list(cron.walk(at("9990-06-01T00:00Z"), "Europe/Paris"))) == 9


def test_walking_over_a_repeated_hour_loses_and_doubles_nothing():
    minutes = list(
        islice(schedule.parse("* * * * *").walk(at("2026-10-24T22:00Z"), "Europe/Paris"), 600)
    )
    assert minutes == [at("2026-10-24T22:01Z") + n * MINUTE for n in range(600)]
