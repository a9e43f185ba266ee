"""calendars.toml of a project folder: what is right is taken, the rest is told with its line."""

from __future__ import annotations

import asyncio
import contextlib
import os
from datetime import UTC, datetime

import pytest

from nomaflow.clock.calendars import Calendar
from nomaflow.project import calendars
from nomaflow.project.folder import Project

TOML = """\
[calendars.business-days]
weekdays = ["mon", "tue", "wed", "thu", "fri"]
exclude = [2026-12-24, "12-31"]
ics = "holidays.ics"

[[blackouts]]
name = "migration"
from = 2026-12-05T20:00:00Z
until = 2026-12-06T02:00:00Z
jobs = ["*"]
action = "postpone"
"""


def holidays(day: str, name: str) -> str:
    return (
        f"BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:{name}\nDTSTART;VALUE=DATE:{day}\nEND:VEVENT\n"
        "END:VCALENDAR\n"
    )


def put(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def year():
    return datetime.now(UTC).year


def test_calendars_are_read_as_they_are_stored_with_the_days_of_their_files(tmp_path, year):
    put(tmp_path, {"calendars.toml": TOML, "holidays.ics": holidays(f"{year}1225", "Christmas")})
    found = Project(tmp_path).calendars()
    assert found.problems == ()
    assert found.definitions == {
        "business-days": {
            "weekdays": ["mon", "tue", "wed", "thu", "fri"],
            "exclude": ["2026-12-24", "12-31"],
            "ics": "holidays.ics",
            "ics_days": {f"{year}-12-25": "Christmas"},
        }
    }
    closed = Calendar.parse(found.definitions["business-days"]).closed
    assert closed(datetime(year, 12, 25, 9, tzinfo=UTC)) == f"closed on {year}-12-25 (Christmas)"
    assert found.blackouts["migration"].action == "postpone"


def test_rules_are_worked_out_for_the_years_around_now(tmp_path, year):
    ics = holidays("20000101", "New Year").replace("END:VEVENT", "RRULE:FREQ=YEARLY\nEND:VEVENT")
    put(tmp_path, {"calendars.toml": '[calendars.a]\nics = "n.ics"\n', "n.ics": ics})
    days = Project(tmp_path).calendars().definitions["a"]["ics_days"]
    around = range(year - calendars.YEARS_BACK, year + calendars.YEARS_AHEAD + 1)
    assert list(days) == [f"{y}-01-01" for y in around]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('[calendars.a]\nweekdays = [\n"mon",\n"noday"]', 4, 'calendar `a`: "noday" is not a'),
        ("[calendars.'a b']\nweekdays = ['mon']", 1, "a name is 1 to 128 letters"),
        ("[calendars.a]\n", 1, "it closes nothing"),
        ("[calendars]\na = 5", 2, "it must be a table, not 5"),
        ("calendars = 5", 1, "write each calendar as a table"),
        ("[calendar.a]\n", 1, "there is no table `calendar`"),
        ("[calendars.a]\nics_days = {}", 2, "is worked out from the file"),
        ("[calendars.a]\nics = 5", 2, "`ics` must name a file, not 5"),
        ("[calendars.a]\nics = 'gone.ics'", 2, 'there is no file "gone.ics"'),
        ("[calendars.a]\nics = '../out.ics'", 2, "leads outside of the project"),
        ("[calendars.a]\nics = '/etc/passwd'", 2, "leads outside of the project"),
        ("[calendars.a]\nics = 'link.ics'", 2, "leads outside of the project"),
        ("[calendars.a]\nics = 'pipe.ics'", 2, "in the project that can be read"),
        ("[calendars.a]\nics = 'folder'", 2, "in the project that can be read"),
        ("[calendars.a]\nics = 'latin.ics'", 2, "is not UTF-8 text"),
        ("[[blackouts]]\nname = 'b'", 1, "blackout `b`: `from` is missing"),
        ("blackouts = 5", 1, "begin each blackout with [[blackouts]]"),
        ("blackouts = [5]", 1, "blackout 1: it must be a table"),
        ("[[blackouts]]\nfrom = 2026-12-05T20:00:00Z", 1, "blackout 1: `name` must be"),
        (
            TOML.split("\n\n")[1].replace("2026-12-05T20:00:00Z", "2026-12-05T20:00:00"),
            3,
            "must say its offset",
        ),
        ("[calendars", 1, "this is not TOML"),
        ("", 1, "the file is empty"),
        ("#" * 300_000, 1, "larger than"),
    ],
)
def test_a_mistake_has_its_file_its_line_and_a_sentence(tmp_path, text, line, said):
    root = tmp_path / "project"
    put(root, {"calendars.toml": text})
    put(tmp_path, {"out.ics": holidays("20261225", "x"), "project/folder/x": ""})
    (root / "link.ics").symlink_to(tmp_path / "out.ics")
    (root / "latin.ics").write_bytes(b"BEGIN:VCALENDAR\nX:\xe9\nEND:VCALENDAR\n")
    os.mkfifo(root / "pipe.ics")
    project = Project(root)
    problem = project.calendars().problems[0]
    assert (problem.file, problem.line) == ("calendars.toml", line)
    assert said in problem.message
    assert problem in project.other_problems()


def test_a_mistake_in_an_icalendar_file_is_told_there(tmp_path):
    text = holidays("20261225T090000", "Party")
    put(tmp_path, {"calendars.toml": '[calendars.a]\nics = "h/p.ics"\n', "h/p.ics": text})
    found = Project(tmp_path).calendars()
    (problem,) = found.problems
    assert (problem.file, problem.line) == ("h/p.ics", 4)
    assert "calendar `a`: the event `Party` has hours" in problem.message
    assert found.bad_calendars == {"a"}


def test_names_that_are_declared_and_cannot_be_read_are_told_apart_from_names_that_are_gone(
    tmp_path,
):
    bad = TOML.replace('"mon"', '"noday"').replace("postpone", "nothing")
    put(tmp_path, {"calendars.toml": bad + TOML.split("\n\n", 1)[1].replace("migration", "good")})
    found = Project(tmp_path).calendars()
    assert (found.bad_calendars, found.bad_blackouts) == ({"business-days"}, {"migration"})
    assert list(found.blackouts) == ["good"]
    assert not found.unreadable
    put(tmp_path, {"calendars.toml": "[cal"})
    assert Project(tmp_path).calendars().unreadable
    (tmp_path / "calendars.toml").unlink()
    assert Project(tmp_path).calendars() == calendars.Calendars()


def test_one_name_twice_keeps_the_first(tmp_path):
    window = TOML.split("\n\n", 1)[1]
    put(tmp_path, {"calendars.toml": window + window.replace("postpone", "skip")})
    found = Project(tmp_path).calendars()
    assert "another one of that name" in found.problems[0].message
    assert found.blackouts["migration"].action == "postpone"
    assert found.bad_blackouts == frozenset()


def test_it_is_read_again_only_when_it_or_a_file_that_it_names_has_changed(tmp_path, year):
    put(tmp_path, {"calendars.toml": TOML})
    project = Project(tmp_path)
    assert project.calendars().bad_calendars == {"business-days"}
    put(tmp_path, {"holidays.ics": holidays(f"{year}0501", "May")})
    found = project.calendars()
    assert found.definitions["business-days"]["ics_days"] == {f"{year}-05-01": "May"}
    assert project.calendars() is found
    put(tmp_path, {"holidays.ics": holidays(f"{year}0502", "May")})
    assert project.calendars().definitions["business-days"]["ics_days"] == {f"{year}-05-02": "May"}


async def test_a_changed_icalendar_file_is_a_change_of_the_project(tmp_path, year):
    put(tmp_path, {"calendars.toml": TOML, "holidays.ics": holidays(f"{year}0501", "May")})
    project = Project(tmp_path)
    project.calendars()
    changes = project.changes()
    async with contextlib.aclosing(changes):
        noticed = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.05)
        put(tmp_path, {"holidays.ics": holidays(f"{year}0503", "May the third")})
        await asyncio.wait_for(noticed, 10)
