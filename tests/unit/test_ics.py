"""Whole days out of iCalendar text: what is read, and what is refused with its line."""

from __future__ import annotations

import time
from datetime import date, timedelta

import pytest

from nomaflow.clock import ics
from nomaflow.errors import Code, NomaflowError


def calendar(*events: str) -> str:
    body = "".join(f"BEGIN:VEVENT\r\n{event.strip()}\r\nEND:VEVENT\r\n" for event in events)
    return f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:test\r\n{body}END:VCALENDAR\r\n"


def days(text: str, first: str = "2026-01-01", last: str = "2027-12-31") -> dict[str, str]:
    found = ics.days(text, date.fromisoformat(first), date.fromisoformat(last))
    return {day.isoformat(): called for day, called in found.items()}


def rule(text: str, start: str = "20260105", first: str = "2026-01-01", last: str = "2026-12-31"):
    return list(days(calendar(f"DTSTART:{start}\r\nRRULE:{text}"), first, last))


def test_a_holiday_is_a_day_with_its_name():
    text = calendar("DTSTART;VALUE=DATE:20261225\r\nSUMMARY:Christmas\r\nTRANSP:TRANSPARENT")
    assert days(text) == {"2026-12-25": "Christmas"}


def test_dtend_is_the_day_after_the_last_one_and_duration_counts_days_or_weeks():
    text = calendar(
        "DTSTART:20261224\nDTEND:20261227\nSUMMARY:A",
        "DTSTART:20260601\nDURATION:P2D\nSUMMARY:B",
        "DTSTART:20260701\nDURATION:P1W\nSUMMARY:C",
        "DTSTART:20260801\nDTEND:20260801\nSUMMARY:D",
    )
    found = days(text)
    assert [day for day, name in found.items() if name == "A"] == [
        "2026-12-24",
        "2026-12-25",
        "2026-12-26",
    ]
    assert [day for day, name in found.items() if name == "B"] == ["2026-06-01", "2026-06-02"]
    assert len([name for name in found.values() if name == "C"]) == 7
    assert [day for day, name in found.items() if name == "D"] == ["2026-08-01"]


def test_midnight_to_midnight_is_a_whole_day():
    text = calendar(
        "DTSTART;TZID=Europe/Paris:20261225T000000\nDTEND;TZID=Europe/Paris:20261226T000000"
    )
    assert days(text) == {"2026-12-25": ""}


def test_folded_lines_escapes_quoted_parameters_and_other_parts_of_the_file():
    text = (
        "\ufeffBEGIN:VCALENDAR\nBEGIN:VTIMEZONE\nTZID:x\nBEGIN:STANDARD\nDTSTART:19701025T030000\n"
        "RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10\nEND:STANDARD\nEND:VTIMEZONE\n"
        'BEGIN:VEVENT\nDTSTART;X-A="a:b":20261225\nSUMMARY;LANGUAGE=en:Christ\n mas\\, the\\n\n'
        "\tday\\; \x07\nBEGIN:VALARM\nDURATION:PT5M\nTRIGGER:-PT5M\nEND:VALARM\nEND:VEVENT\n"
        "END:VCALENDAR"
    )
    assert days(text) == {"2026-12-25": "Christmas, the day;"}


def test_long_names_are_cut():
    found = days(calendar("DTSTART:20261225\nSUMMARY:" + "x" * 5000))
    assert len(found["2026-12-25"]) < 100


def test_what_is_cancelled_closes_nothing_and_an_occurrence_can_be_moved():
    text = calendar(
        "UID:1\nDTSTART:20260101\nSTATUS:CANCELLED",
        "UID:2\nDTSTART:20260105\nRRULE:FREQ=WEEKLY;COUNT=4\nEXDATE:20260112",
        "UID:2\nRECURRENCE-ID;VALUE=DATE:20260119\nDTSTART:20260120\nSUMMARY:moved",
        "UID:2\nRECURRENCE-ID;VALUE=DATE:20260126\nDTSTART:20260126\nSTATUS:CANCELLED",
    )
    assert days(text) == {"2026-01-05": "", "2026-01-20": "moved"}


def test_further_days_are_listed_by_rdate():
    text = calendar("DTSTART:20260101\nRDATE;VALUE=DATE:20260301,20260401\nSUMMARY:x")
    assert list(days(text)) == ["2026-01-01", "2026-03-01", "2026-04-01"]


def test_only_days_of_the_window_are_given():
    text = calendar("DTSTART:20201225\nRRULE:FREQ=YEARLY\nDURATION:P2D")
    assert list(days(text, "2026-12-26", "2027-12-25")) == ["2026-12-26", "2027-12-25"]


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("FREQ=DAILY;COUNT=3", "20260105", "01-05 01-06 01-07"),
        ("FREQ=DAILY;INTERVAL=100", "20260105", "01-05 04-15 07-24 11-01"),
        ("FREQ=DAILY;UNTIL=20260107T235959Z", "20260105", "01-05 01-06 01-07"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=-1", "20250228", "02-28"),
        ("FREQ=WEEKLY;BYDAY=MO,FR;COUNT=4", "20260105", "01-05 01-09 01-12 01-16"),
        # RFC 5545, 3.3.10: the two examples that differ by WKST alone.
        (
            "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO",
            "20260106",
            "01-06 01-11 01-20 01-25",
        ),
        (
            "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU",
            "20260106",
            "01-06 01-18 01-20 02-01",
        ),
        ("FREQ=MONTHLY;BYDAY=1FR;COUNT=3", "20260102", "01-02 02-06 03-06"),
        ("FREQ=MONTHLY;BYDAY=-1MO;UNTIL=20260331", "20260126", "01-26 02-23 03-30"),
        ("FREQ=MONTHLY;COUNT=3", "20260131", "01-31 03-31 05-31"),
        ("FREQ=MONTHLY;BYMONTHDAY=13;BYDAY=FR", "20260213", "02-13 03-13 11-13"),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;COUNT=3", "20260130", "01-30 02-27 03-31"),
        ("FREQ=MONTHLY;INTERVAL=5", "20250401", "02-01 07-01 12-01"),
        ("FREQ=YEARLY", "20100704", "07-04"),
        ("FREQ=YEARLY;BYMONTH=11;BYDAY=4TH", "20101125", "11-26"),
        ("FREQ=YEARLY;BYMONTH=5;BYDAY=-1MO", "20100531", "05-25"),
        ("FREQ=YEARLY;BYDAY=20MO", "20100517", "05-18"),
        ("FREQ=YEARLY;BYMONTHDAY=31;BYMONTH=1,3", "20100131", "01-31 03-31"),
        ("FREQ=YEARLY;INTERVAL=4", "20040229", ""),
        ("FREQ=YEARLY;INTERVAL=2", "20100704", "07-04"),
        ("FREQ=YEARLY;INTERVAL=2", "20110704", ""),
        ("FREQ=YEARLY;COUNT=16", "20100704", ""),
        ("FREQ=YEARLY;COUNT=17", "20100704", "07-04"),
        # The start counts, though it is no Monday.
        ("FREQ=WEEKLY;BYDAY=MO;COUNT=2", "20260106", "01-06 01-12"),
    ],
)
def test_rules(text, start, expected):
    assert rule(text, start) == [f"2026-{day}" for day in expected.split()]


@pytest.mark.parametrize(
    ("event", "line", "said"),
    [
        ("DTSTART:20261225T090000\nSUMMARY:Party", 5, "has hours"),
        ("DTSTART:20261225\nDURATION:PT4H", 6, "only whole days or weeks"),
        ("DTSTART:20261325", 5, "does not exist"),
        ("DTSTART:tomorrow", 5, "is not a date"),
        ("SUMMARY:x", 4, "has no DTSTART"),
        ("DTSTART:20261225\nDTEND:20261224", 4, "ends before it begins"),
        ("DTSTART:20260101\nDTEND:20280101", 4, "lasts longer than"),
        ("DTSTART:20261225\nRRULE:FREQ=HOURLY", 4, "it recurs `HOURLY`"),
        ("DTSTART:20261225\nRRULE:FREQ=YEARLY;BYWEEKNO=3", 4, "`BYWEEKNO` in its RRULE"),
        ("DTSTART:20261225\nRRULE:FREQ=YEARLY;COUNT=0", 4, "must be from 1 to 9999"),
        ("DTSTART:20261225\nRRULE:FREQ=YEARLY;COUNT=99999", 4, "is not a number"),
        ("DTSTART:20261225\nRRULE:FREQ=YEARLY;COUNT=1;UNTIL=20270101", 4, "both COUNT and UNTIL"),
        ("DTSTART:20261225\nRRULE:FREQ=WEEKLY;BYDAY=2MO", 4, "says nothing in a WEEKLY rule"),
        ("DTSTART:20261225\nRRULE:FREQ=WEEKLY;BYDAY=XX", 4, "is not a weekday"),
        ("DTSTART:20261225\nRRULE:FREQ=YEARLY;FREQ=DAILY", 4, "cannot be read"),
        ("DTSTART:20261225\nRRULE:nonsense", 4, "cannot be read"),
        ("DTSTART:18991225\nRRULE:FREQ=YEARLY", 4, "after 1900"),
        ("DTSTART:20261225\nRRULE:FREQ=DAILY\nRRULE:FREQ=DAILY", 7, "two RRULE lines"),
        ("DTSTART:20261225\nEXRULE:FREQ=DAILY", 6, "`EXRULE` in this form"),
        ("DTSTART:20261225\nRECURRENCE-ID;RANGE=THISANDFUTURE:20261225", 6, "in this form"),
        ("DTSTART:20261225\nthis is no line", 6, "has no colon"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(event, line, said):
    with pytest.raises(NomaflowError) as refused:
        days(calendar(event))
    assert refused.value.code is Code.INVALID
    assert refused.value.path == (str(line),)
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not an iCalendar file"),
        ("{}", "not an iCalendar file"),
        ("<html>" * 100, "not an iCalendar file"),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20261225\n", "cut off"),
        ("BEGIN:VCALENDAR\nEND:VEVENT\n", "ends nothing"),
    ],
)
def test_what_is_no_whole_file_is_refused(text, said):
    with pytest.raises(NomaflowError, match=said):
        days(text)


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN:VCALENDAR\n" + "X:" + "y" * 1_000_000,
        calendar(*["DTSTART:20261225"] * 5_001),
        calendar(*["DTSTART:19000101\nRRULE:FREQ=DAILY;COUNT=9999"] * 4_000),
        calendar(*["DTSTART:20260101\nDTEND:20270101\nRRULE:FREQ=DAILY"] * 4_000),
        calendar(*["DTSTART:20260101\nDTEND:20270101"] * 5_000),
        calendar("DTSTART:20260101\nDTEND:20270101\nRDATE:" + ",".join(["20260101"] * 90_000)),
        calendar(*["DTSTART:20000101\nRRULE:FREQ=YEARLY;BYDAY=" + ",".join(["MO"] * 150)] * 4_000),
    ],
    ids=["size", "events", "counted", "daily", "long", "listed", "weekdays"],
)
def test_a_hostile_file_costs_little_and_gets_a_sentence(text):
    began = time.process_time()
    with pytest.raises(NomaflowError) as refused:
        days(text, "2025-01-01", "2031-12-31")
    assert refused.value.code is Code.LIMIT_EXCEEDED
    assert time.process_time() - began < 3


def test_deeply_nested_parts_do_not_hurt():
    text = "BEGIN:VCALENDAR\n" + "BEGIN:X\n" * 50_000 + "END:X\n" * 50_000 + "END:VCALENDAR\n"
    assert days(text) == {}


def test_a_rule_that_leaps_ahead_gives_what_one_that_walks_gives():
    first, last = date(2026, 1, 1), date(2026, 12, 31)
    for interval in (1, 2, 3, 5, 7, 11):
        for frequency in ("DAILY", "WEEKLY", "MONTHLY", "YEARLY"):
            start = "20010315"
            leaps = calendar(f"DTSTART:{start}\nRRULE:FREQ={frequency};INTERVAL={interval}")
            walks = calendar(
                f"DTSTART:{start}\nRRULE:FREQ={frequency};INTERVAL={interval};COUNT=9999"
            )
            assert ics.days(leaps, first, last) == ics.days(walks, first, last)
    assert last - first == timedelta(days=364)
