"""What clocks will really do: closed times leapt over, collisions at the same second, jitter."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomaflow.clock import forecast, schedule
from nomaflow.clock.calendars import Action, Blackout, Calendar
from nomaflow.clock.forecast import Clock, Closures

NOW = datetime(2026, 12, 21, 12, tzinfo=UTC)  # a Monday
OPEN = Closures()


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-12-{text}").replace(tzinfo=UTC)


def cron(expression: str, job: str = "copy", **facts) -> Clock:
    due = schedule.parse(expression).next_after(NOW, facts.get("timezone", "UTC"))
    return Clock(job=job, name="default", cron=expression, next_due=due, **facts)


def blackout(begin: str, end: str, action: Action = Action.SKIP, name: str = "dark") -> Blackout:
    return Blackout(name, at(begin), at(end), ("*",), (), action)


def times(clock: Clock, closures: Closures = OPEN, count: int = 4, **how) -> list[str]:
    found = islice(forecast.fires(clock, closures, NOW, **how), count)
    return [planned.at.strftime("%dT%H:%M:%S") for planned in found]


def test_an_open_clock_fires_when_it_is_due():
    assert times(cron("0 6 * * *")) == [f"{day}T06:00:00" for day in (22, 23, 24, 25)]


def test_an_interval_goes_on_from_its_next_due_time():
    clock = Clock(job="a", name="b", every_seconds=90, next_due=at("21T11:59:30"))
    assert times(clock) == ["21T12:01:00", "21T12:02:30", "21T12:04:00", "21T12:05:30"]


def test_a_clock_that_stands_still_fires_never():
    assert times(Clock(job="a", name="b", cron="* * * * *")) == []


def test_max_fires_ends_it():
    assert len(times(cron("* * * * *", fires_left=3), count=9)) == 3


def test_max_fires_counts_those_before_the_window_as_well():
    clock = cron("0 * * * *", fires_left=3)  # 13:00, 14:00, 15:00
    later = forecast.fires(clock, OPEN, at("21T14:30"), now=NOW)
    assert [planned.at for planned in later] == [at("21T15:00")]
    assert list(forecast.fires(clock, OPEN, at("22T00:00"), now=NOW)) == []
    pages = forecast.calendar([clock], OPEN, at("21T15:00"), at("23T00:00"), now=NOW)
    assert [shown.planned.at for shown in pages] == [at("21T15:00")]


def test_what_waits_for_the_end_of_a_blackout_is_no_fire_of_a_later_window():
    closures = Closures(postponed={("copy", "default"): at("21T12:30")})
    there = forecast.fires(cron("0 * * * *"), closures, at("21T18:00"), at("21T19:00"))
    assert [planned.at for planned in there] == [at("21T18:00")]


def test_jitter_shifts_each_fire_and_loses_none_that_is_under_way():
    clock = cron("0 * * * *", jitter=timedelta(seconds=40))
    assert times(clock, count=2) == ["21T13:00:40", "21T14:00:40"]
    planned = next(forecast.fires(clock, OPEN, at("21T13:00:20")))
    assert (planned.at, planned.due_at) == (at("21T13:00:40"), at("21T13:00"))


def test_a_pause_closes_until_its_end():
    clock = cron("0 6 * * *", paused_until=at("23T06:00"))
    assert times(clock, count=2) == ["23T06:00:00", "24T06:00:00"]
    closed = OPEN.of(clock, at("22T06:00"))
    assert closed is not None
    assert closed.reason == "paused: the job is paused until 2026-12-23T06:00:00Z"


def test_a_calendar_is_read_in_the_schedule_s_own_zone():
    calendars = {"office": Calendar.parse({"ics_days": {"2026-12-22": "Shut"}})}
    clock = cron("30 23 * * *", timezone="America/New_York", calendar="office")
    assert times(clock, Closures(calendars), count=2) == ["22T04:30:00", "24T04:30:00"]
    closed = Closures(calendars).of(clock, at("23T04:30"))
    assert closed is not None
    assert closed.reason == "calendar: office is closed on 2026-12-22 (Shut)"


def test_windows_open_and_close_within_a_day():
    calendars = {"c": Calendar.parse({"windows": ["mon-fri 08:00-09:00", "12:30-12:45"]})}
    clock = cron("*/10 * * * *", calendar="c")
    assert times(clock, Closures(calendars), count=4) == [
        "21T12:30:00",
        "21T12:40:00",
        "22T08:00:00",
        "22T08:10:00",
    ]


def test_a_calendar_that_nobody_declares_closes_nothing():
    assert times(cron("0 6 * * *", calendar="gone"), count=1) == ["22T06:00:00"]


def test_a_blackout_that_skips_is_leapt_over_at_once_however_often_the_clock_ticks():
    clock = cron("* * * * * *")
    began = time.process_time()
    closures = Closures(blackouts=(blackout("21T12:00:02", "31T12:00"),))
    assert times(clock, closures, count=3) == ["21T12:00:01", "31T12:00:00", "31T12:00:01"]
    assert time.process_time() - began < 0.5


def test_what_a_blackout_postpones_fires_once_at_its_end():
    closures = Closures(blackouts=(blackout("21T13:00", "21T15:30", Action.POSTPONE),))
    assert times(cron("0 * * * *"), closures, count=3) == [
        "21T15:30:00",
        "21T16:00:00",
        "21T17:00:00",
    ]
    (planned, _) = islice(forecast.fires(cron("0 * * * *"), closures, NOW), 2)
    assert planned.closed is None


def test_one_that_skips_decides_over_one_that_postpones():
    both = (
        blackout("21T13:00", "21T15:30", Action.POSTPONE, "later"),
        blackout("21T12:30", "21T14:30", Action.SKIP, "never"),
    )
    closed = Closures(blackouts=both).of(cron("0 * * * *"), at("21T13:00"))
    assert closed is not None
    assert closed.reason == "blackout: never until 2026-12-21T14:30:00Z"
    assert closed.fires_at is None


def test_what_is_postponed_into_another_blackout_waits_for_its_end_or_is_skipped_there():
    later = (
        blackout("21T13:00", "21T15:30", Action.POSTPONE),
        blackout("21T15:00", "21T17:30", Action.POSTPONE, "second"),
    )
    assert times(cron("0 * * * *"), Closures(blackouts=later), count=2) == [
        "21T17:30:00",
        "21T18:00:00",
    ]
    never = (later[0], blackout("21T15:00", "21T17:30", Action.SKIP, "second"))
    assert times(cron("0 * * * *"), Closures(blackouts=never), count=1) == ["21T18:00:00"]


def test_jitter_can_carry_a_fire_into_a_blackout():
    clock = cron("0 * * * *", jitter=timedelta(seconds=40))
    closures = Closures(blackouts=(blackout("21T13:00:30", "21T13:30"),))
    assert times(clock, closures, count=1) == ["21T14:00:40"]


def test_closed_times_can_be_shown_with_their_reason():
    closures = Closures(blackouts=(blackout("21T13:00", "21T14:30"),))
    found = list(islice(forecast.fires(cron("0 * * * *"), closures, NOW, with_closed=True), 3))
    assert [planned.closed for planned in found] == [
        "blackout: dark until 2026-12-21T14:30:00Z",
        "blackout: dark until 2026-12-21T14:30:00Z",
        None,
    ]


def test_a_calendar_that_never_opens_is_given_up_soon():
    calendars = {"sundays": Calendar.parse({"weekdays": ["sun"]})}
    began = time.process_time()
    clock = cron("*/5 * * * mon", calendar="sundays")
    assert forecast.next_fire(clock, Closures(calendars), NOW) is None
    assert time.process_time() - began < 1


def test_fires_at_the_same_second_collide_and_no_others():
    clocks = [
        cron("0 6 * * *", "a"),
        cron("0 6 22 * *", "b"),
        cron("30 6 * * *", "c"),
        cron("0 6 * * *", "d", jitter=timedelta(seconds=7)),
    ]
    found = forecast.calendar(clocks, OPEN, NOW, at("23T06:00"))
    assert [(s.planned.at.strftime("%dT%H:%M:%S"), s.planned.job, s.collides) for s in found] == [
        ("22T06:00:00", "a", True),
        ("22T06:00:00", "b", True),
        ("22T06:00:07", "d", False),
        ("22T06:30:00", "c", False),
    ]


def test_what_is_closed_collides_with_nothing():
    dark = Blackout("dark", NOW, at("31T00:00"), ("a",))
    clocks = [cron("0 6 * * *", "a"), cron("0 6 * * *", "b")]
    until = at("22T07:00")
    found = forecast.calendar(clocks, Closures(blackouts=(dark,)), NOW, until, with_closed=True)
    assert [(s.planned.job, s.collides, s.planned.closed is None) for s in found] == [
        ("a", False, False),
        ("b", False, True),
    ]


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_the_nights_of_the_clock_change_lose_and_double_nothing_through_a_calendar(day):
    begin = datetime.fromisoformat(f"{day}T00:00:00+00:00") - timedelta(hours=3)
    calendars = {"all": Calendar.parse({"windows": ["00:00-24:00"]})}
    clock = Clock(
        job="a",
        name="b",
        cron="*/20 * * * *",
        timezone="Europe/Berlin",
        next_due=begin,
        calendar="all",
    )
    found = islice(forecast.fires(clock, Closures(calendars), begin), 24)
    assert [planned.at for planned in found] == [
        begin + timedelta(minutes=20 * n) for n in range(24)
    ]


def test_a_thousand_clocks_are_merged_in_order_at_the_cost_of_what_is_read():
    clocks = [cron(f"{n % 60} {n % 24} * * *", f"job-{n}") for n in range(1_000)]
    began = time.process_time()
    found = list(islice(forecast.calendar(clocks, OPEN, NOW, at("31T00:00")), 500))
    assert [s.planned.at for s in found] == sorted(s.planned.at for s in found)
    assert time.process_time() - began < 1


MINUTES = st.integers(0, 59)
WINDOWS = st.tuples(
    st.sampled_from(["", "mon-fri ", "sat,sun ", "fri "]),
    st.integers(0, 23),
    MINUTES,
    st.integers(0, 23),
    MINUTES,
).filter(lambda w: w[1:3] != w[3:5])
CALENDARS = st.fixed_dictionaries(
    {"exclude": st.lists(st.sampled_from(["12-25", "2026-12-28", "2027-01-01..2027-01-03"]))},
    optional={
        "weekdays": st.lists(st.sampled_from(["mon", "wed", "sat"]), min_size=1, unique=True),
        "include": st.just(["2026-12-27"]),
        "windows": st.lists(
            WINDOWS.map(lambda w: f"{w[0]}{w[1]:02}:{w[2]:02}-{w[3]:02}:{w[4]:02}"),
            min_size=1,
            max_size=3,
        ),
    },
)
STRETCHES = st.lists(st.tuples(st.integers(0, 500), st.integers(1, 90)), max_size=3)


@settings(deadline=None, max_examples=30)
@given(
    expression=st.sampled_from(["*/25 * * * *", "0 */5 * * *", "17 3 * * *", "30 2 * * sun"]),
    zone=st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe"]),
    definition=CALENDARS,
    stretches=STRETCHES,
)
def test_leaping_over_what_is_closed_gives_what_looking_at_each_due_time_gives(
    expression, zone, definition, stretches
):
    until = NOW + timedelta(days=21)
    calendar = Calendar.parse(definition)
    blackouts = tuple(
        Blackout(f"b{n}", NOW + timedelta(hours=h), NOW + timedelta(hours=h + length), ("*",))
        for n, (h, length) in enumerate(stretches)
    )
    clock = cron(expression, timezone=zone, calendar="c")
    closures = Closures({"c": calendar}, blackouts)
    place = schedule.zone(zone)
    plain = []
    at = clock.next_due
    while at is not None and at < until:
        dark = any(b.from_at <= at < b.until for b in blackouts)
        if not dark and calendar.closed(at.astimezone(place)) is None:
            plain.append(at)
        at = clock.after(at)
    assert [p.at for p in forecast.fires(clock, closures, NOW, until)] == plain
