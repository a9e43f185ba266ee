"""What a calendar closes and a blackout covers, and how each mistake in writing one is said."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nomaflow.clock import calendars
from nomaflow.clock.calendars import Action, Blackout, Calendar
from nomaflow.errors import Code, NomaflowError

BUSINESS = {
    "weekdays": ["mon", "tue", "wed", "thu", "fri"],
    "exclude": ["2026-12-24", "05-01", "2027-08-02..2027-08-06"],
    "include": ["2026-12-19"],
    "windows": ["mon-fri 08:00-18:00"],
    "ics_days": {"2026-12-25": "Christmas", "2026-12-28": ""},
}


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        ("2026-12-23T08:00", None),
        ("2026-12-23T17:59:59", None),
        ("2026-12-23T18:00", "closed on 2026-12-23 at 18:00 (outside its windows)"),
        ("2026-12-23T07:59:59", "closed on 2026-12-23 at 07:59 (outside its windows)"),
        ("2026-12-24T09:00", "closed on 2026-12-24"),
        ("2026-12-25T09:00", "closed on 2026-12-25 (Christmas)"),
        ("2026-12-28T09:00", "closed on 2026-12-28"),
        ("2026-12-26T09:00", "closed on 2026-12-26 (a Saturday)"),
        ("2026-12-19T09:00", None),
        ("2026-12-19T23:00", None),  # an included day is open all day
        ("2026-05-01T09:00", "closed on 2026-05-01"),
        ("2030-05-01T09:00", "closed on 2030-05-01"),
        ("2027-08-02T09:00", "closed on 2027-08-02"),
        ("2027-08-06T09:00", "closed on 2027-08-06"),
        ("2027-08-09T09:00", None),
    ],
)
def test_a_calendar_says_why_it_is_closed(moment, said):
    assert Calendar.parse(BUSINESS).closed(datetime.fromisoformat(moment)) == said


@pytest.mark.parametrize(
    ("windows", "moment", "is_open"),
    [
        (["22:00-06:00"], "2026-12-23T23:00", True),
        (["22:00-06:00"], "2026-12-23T05:59", True),
        (["22:00-06:00"], "2026-12-23T06:00", False),
        # A window over midnight belongs to the day it began: Friday's reaches into Saturday.
        (["fri 22:00-06:00"], "2026-12-26T03:00", True),
        (["fri 22:00-06:00"], "2026-12-25T03:00", False),
        (["sat,sun 10:00-16:00", "mon 00:00-24:00"], "2026-12-27T10:00", True),
        (["sat,sun 10:00-16:00", "mon 00:00-24:00"], "2026-12-28T23:59:59", True),
        (["sat,sun 10:00-16:00", "mon 00:00-24:00"], "2026-12-29T00:00", False),
        (["sat-mon 12:00-13:00"], "2026-12-28T12:30", True),
        (["sat-mon 12:00-13:00"], "2026-12-29T12:30", False),
        (["20:00-00:00"], "2026-12-29T23:59", True),
        (["20:00-00:00"], "2026-12-29T00:00", False),
    ],
)
def test_windows_may_pass_midnight_and_the_end_of_the_week(windows, moment, is_open):
    closed = Calendar.parse({"windows": windows}).closed(datetime.fromisoformat(moment))
    assert (closed is None) is is_open


@pytest.mark.parametrize(
    ("table", "path", "said"),
    [
        ({}, (), "it closes nothing"),
        ({"wekdays": ["mon"]}, ("wekdays",), "there is no field `wekdays`"),
        ({"weekdays": "mon"}, ("weekdays",), "must be a list of weekdays"),
        ({"weekdays": []}, ("weekdays",), "no weekday is open"),
        ({"weekdays": ["mon", "xyz"]}, ("weekdays", "1"), '"xyz" is not a weekday'),
        ({"weekdays": [1]}, ("weekdays", "0"), "1 is not a weekday"),
        ({"exclude": ["2026-02-30"]}, ("exclude", "0"), '"2026-02-30" is not a day'),
        ({"exclude": ["20261225"]}, ("exclude", "0"), '"20261225" is not a day'),
        ({"exclude": ["13-01"]}, ("exclude", "0"), '"13-01" is not a day'),
        ({"exclude": ["2026-01-02..2026-01-01"]}, ("exclude", "0"), "is before"),
        ({"exclude": ["0001-01-01..9999-01-01"]}, ("exclude", "0"), "more than 5000 days"),
        ({"exclude": ["2020-01-01..2026-01-01"] * 3}, ("exclude",), "more than 5000 days"),
        ({"exclude": ["05-01"] * 5001}, ("exclude",), "at most 5000 entries"),
        ({"windows": []}, ("windows",), "no hour is open"),
        ({"windows": ["8-18"]}, ("windows", "0"), '"8-18" is not a window'),
        ({"windows": ["mon 08:00-25:00"]}, ("windows", "0"), "`25:00` is not a time of day"),
        ({"windows": ["24:00-08:00"]}, ("windows", "0"), "`24:00` is not a time of day"),
        ({"windows": ["08:00-08:00"]}, ("windows", "0"), "has no length"),
        ({"windows": ["foo 08:00-18:00"]}, ("windows", "0"), '"foo" is not a weekday'),
        ({"ics_days": {"x": "y"}}, ("ics_days",), "must be a table of days"),
    ],
)
def test_a_mistake_in_a_calendar_is_a_sentence_with_its_place(table, path, said):
    with pytest.raises(NomaflowError) as refused:
        Calendar.parse(table)
    assert refused.value.code is Code.INVALID
    assert refused.value.path == path
    assert said in refused.value.message


def test_all_mistakes_of_a_calendar_are_told_at_once():
    found = list(calendars.problems({"weekdays": ["x"], "windows": ["y"], "colour": "red"}))
    assert [path for path, _ in found] == [("colour",), ("weekdays", "0"), ("windows", "0")]


def window(**changes):
    usual = {
        "name": "migration",
        "from": datetime(2026, 12, 5, 20, tzinfo=UTC),
        "until": "2026-12-06T03:00:00+01:00",
        "jobs": ["report-*", "copy"],
    }
    return usual | changes


def test_a_blackout_covers_the_jobs_it_names_from_its_begin_until_before_its_end():
    blackout = Blackout.parse(window())
    assert blackout.action is Action.SKIP
    begin, end = datetime(2026, 12, 5, 20, tzinfo=UTC), datetime(2026, 12, 6, 2, tzinfo=UTC)
    assert (blackout.from_at, blackout.until) == (begin, end)
    assert blackout.covers("report-daily", (), begin)
    assert blackout.covers("copy", (), begin.replace(hour=23))
    assert not blackout.covers("copy", (), end)
    assert not blackout.covers("copying", (), begin)
    assert not blackout.covers("Copy", (), begin)


def test_a_blackout_of_a_connector_stops_the_jobs_that_use_it():
    blackout = Blackout.parse(window(jobs=None, connectors=["ops-*"], action="postpone"))
    at = blackout.from_at
    assert blackout.action is Action.POSTPONE
    assert blackout.covers("any", ("default", "ops-db"), at)
    assert not blackout.covers("any", ("default",), at)


@pytest.mark.parametrize(
    ("changes", "path", "said"),
    [
        ({"name": "a b"}, ("name",), "letters, digits"),
        ({"name": None}, ("name",), "letters, digits"),
        ({"from": None}, ("from",), "`from` is missing"),
        ({"from": "yesterday"}, ("from",), "must be a time such as"),
        ({"from": datetime(2026, 12, 5, 20)}, ("from",), "must say its offset"),  # noqa: DTZ001
        ({"from": "0001-01-01T00:00:00+14:00"}, ("from",), "outside the years"),
        ({"until": datetime(2026, 12, 5, 20, tzinfo=UTC)}, ("until",), "must be later"),
        ({"until": datetime(2028, 12, 5, 20, tzinfo=UTC)}, ("until",), "at most 366 days"),
        ({"jobs": [], "connectors": None}, ("jobs",), "say which jobs"),
        ({"jobs": "copy"}, ("jobs",), "must be a list"),
        ({"jobs": ["a b"]}, ("jobs", "0"), "neither a name nor a pattern"),
        ({"jobs": ["*" * 129]}, ("jobs", "0"), "neither a name nor a pattern"),
        ({"jobs": ["x"] * 101}, ("jobs",), "at most 100"),
        ({"connectors": [5]}, ("connectors", "0"), "neither a name nor a pattern"),
        ({"action": "delay"}, ("action",), "must be skip or postpone"),
        ({"action": ["skip"]}, ("action",), "must be skip or postpone"),
        ({"colour": "red"}, ("colour",), "there is no field `colour`"),
    ],
)
def test_a_mistake_in_a_blackout_is_a_sentence_with_its_place(changes, path, said):
    with pytest.raises(NomaflowError) as refused:
        Blackout.parse(window(**changes))
    assert refused.value.code is Code.INVALID
    assert refused.value.path == path
    assert said in refused.value.message
