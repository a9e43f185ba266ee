"""What becomes of one due time: who is asked first, and what a clock that is too fast is told."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from nomaflow.clock.calendars import Action, Blackout, Calendar
from nomaflow.clock.dependencies import Standing
from nomaflow.job.spec import DependencySpec
from nomaflow.lifecycle import SKIPPED_OVERLAP, RunStatus
from nomaflow.overlap import InFlight
from nomaflow.store.births import NewRun
from nomaflow.store.closures import SwitchRow
from nomaflow.store.due import JobFacts, OpenSlot
from nomaflow.store.schedules import ScheduleRow
from nomaflow_scheduler import ahead, verdict
from nomaflow_scheduler.closing import Closing
from nomaflow_scheduler.lateness import Fire
from nomaflow_scheduler.templates import Template
from nomaflow_scheduler.verdict import Surroundings, Verdict

ID = UUID(int=1)
NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)  # a Wednesday
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def clock(**facts):
    known = {
        "id": ID,
        "job_id": ID,
        "name": "default",
        "cron": "0 12 * * *",
        "every_seconds": None,
        "timezone": "UTC",
        "params": {},
        "declared_enabled": True,
        "switched_on": True,
        "fire_on_start": False,
        "max_fires": 0,
        "preset": None,
        "next_fire_at": NOON,
        "last_fire_at": None,
        "fire_count": 0,
        "look_at": NOON,
    }
    return ScheduleRow(**(known | facts))


def around(now=NOON, *, in_flight=0, standing=None, depends=(), blackouts=(), **facts):
    job = JobFacts(ID, "j", 1, facts.pop("enabled", True), True, None, facts.pop("paused", None), 1)
    closing = Closing(
        clock=facts.pop("clock", clock()),
        job=job,
        switch=SwitchRow(facts.pop("stopped", False), None, None, "ann", NOON),
        blackouts=list(blackouts),
        calendar=facts.pop("calendar", None),
    )
    template = Template(
        run=NewRun(job_name="j", trigger="cron", triggered_by="cron"),
        timezone="UTC",
        overlap=facts.pop("overlap", "skip"),
        queue_depth=1,
        depends_on=list(depends),
        connectors=(),
        fires_when_disabled=False,
    )
    flying = [InFlight(ID, running=True, started=True)] * in_flight
    return Surroundings(now, closing, template, {"x": standing} if standing else {}, flying)


def window(action, start=NOON - HOUR, until=NOON + HOUR):
    return Blackout("w", start, until, ("*",), action=action)


CLOSED = Calendar.parse({"weekdays": ["sun"]})
X = DependencySpec(job="x")
# Everything that may stand against it, from the last asked to the first: each hides those before.
AGAINST = [
    ({"in_flight": 1}, ("skipped", SKIPPED_OVERLAP)),
    ({"depends": [X]}, ("skipped", "dependency-never-ran: x")),
    (
        {"blackouts": [window(Action.POSTPONE)]},
        ("postponed", "blackout: w until 2026-11-25T13:00:00Z"),
    ),
    (
        {"blackouts": [window(Action.POSTPONE), window(Action.SKIP)]},
        ("skipped", "blackout: w until 2026-11-25T13:00:00Z"),
    ),
    (
        {"calendar": CLOSED, "clock": clock(calendar="c")},
        ("skipped", "calendar: c is closed on 2026-11-25 (a Wednesday)"),
    ),
    (
        {"paused": NOON + HOUR},
        ("skipped", "paused: the job is paused until 2026-11-25T13:00:00Z"),
    ),
    ({"stopped": True}, ("skipped", "paused: the whole scheduler was paused by ann")),
]


@pytest.mark.parametrize("count", range(1, len(AGAINST) + 1))
def test_who_is_asked_first(count):
    facts = {}
    for more, _ in AGAINST[:count]:
        facts |= more
    found = verdict.decide(Fire(NOON), around(**facts))
    assert (found.outcome, found.reason) == AGAINST[count - 1][1]
    # Only overlap and dependencies leave a run that is skipped.
    assert (found.status is RunStatus.SKIPPED) == (count <= 2)


def test_nothing_against_it_fires():
    assert verdict.decide(Fire(NOON), around()) == Verdict("fired", None, RunStatus.QUEUED)


def test_a_blackout_counts_at_the_due_time_and_now():
    later = window(Action.SKIP, NOON + MINUTE, NOON + HOUR)
    assert verdict.decide(Fire(NOON), around(blackouts=[later])).fires
    late = around(NOON + 2 * MINUTE, blackouts=[later])
    assert verdict.decide(Fire(NOON), late).outcome == "skipped"
    over = around(NOON + MINUTE, blackouts=[window(Action.SKIP, until=NOON + MINUTE)])
    assert verdict.decide(Fire(NOON), over).outcome == "skipped"  # it was due inside
    over = around(NOON + MINUTE, blackouts=[window(Action.POSTPONE, until=NOON + MINUTE)])
    assert verdict.decide(Fire(NOON), over).fires


@pytest.mark.parametrize(
    ("policy", "serial"), [("skip", True), ("queue", True), ("replace", True), ("allow", False)]
)
def test_what_is_made_up_for_takes_its_turn(policy, serial):
    found = verdict.decide(Fire(NOON, caught_up=True), around(overlap=policy, in_flight=3))
    assert found == Verdict("caught_up", None, RunStatus.QUEUED, serial=serial)


def slot(outcome="postponed", *, look_at=NOON + HOUR, deadline=None, retired=False, **facts):
    # Its clock has gone on meanwhile.
    later = clock(**({"next_fire_at": NOON + 24 * HOUR, "look_at": NOON + 24 * HOUR} | facts))
    return OpenSlot(later, NOON, outcome, "why", look_at, deadline, retired)


def test_a_postponed_due_time_fires_at_the_end_and_not_long_after():
    one = slot()
    assert verdict.again(one, around(NOON + HOUR)).outcome == "fired"
    assert verdict.again(one, around(NOON + 2 * HOUR)).outcome == "missed"
    patient = slot(catch_up="last")
    assert verdict.again(patient, around(NOON + 2 * HOUR)).outcome == "caught_up"


def test_what_waited_for_a_clock_that_is_gone_is_skipped():
    assert verdict.again(slot(retired=True), around(NOON + HOUR)).reason.startswith("skipped: its")
    off = verdict.again(slot(), around(NOON + HOUR, enabled=False))
    assert off.reason == "skipped: the job was disabled meanwhile"
    spent = verdict.again(slot(max_fires=2, fire_count=2), around(NOON + HOUR))
    assert spent.reason == "skipped: the schedule has fired 2 times"


def test_waiting_ends_at_the_deadline():
    wanted = DependencySpec(job="x", by="30m")
    one = slot("waiting", look_at=NOON + MINUTE, deadline=NOON + 30 * MINUTE)
    before = verdict.again(one, around(NOON + MINUTE, depends=[wanted]))
    assert (before.outcome, before.deadline) == ("waiting", NOON + 30 * MINUTE)
    assert before.look_at == NOON + 30 * MINUTE
    after = verdict.again(one, around(NOON + 30 * MINUTE, depends=[wanted]))
    assert (after.outcome, after.status) == ("skipped", RunStatus.SKIPPED)
    in_time = Standing("succeeded", NOON + 29 * MINUTE)
    late = around(NOON + HOUR, depends=[wanted], standing=in_time)
    assert verdict.again(one, late).outcome == "fired"
    too_late = Standing("succeeded", NOON + 31 * MINUTE)
    late = around(NOON + HOUR, depends=[wanted], standing=too_late)
    assert verdict.again(one, late).outcome == "skipped"


@pytest.mark.parametrize(
    ("pattern", "warned"),
    [
        ("F" * 10, False),
        ("FSFFFFSFFFF", False),  # now and then is no habit
        ("FSS", True),
        ("FSFS", True),
        ("FSSFSSFSS", True),
        ("FSSFF", False),  # two in a row fired: over
        ("FSSFFS", True),  # two of four
        ("FSSFFFS", False),
    ],
)
def test_when_a_clock_is_called_too_fast(pattern, warned):
    lately, told = [], False
    for one in pattern:
        skipped = one == "S"
        if skipped or told:
            told = verdict.keeps_skipping(lately[:3], skipped=skipped, warned=told)
        lately.insert(0, SKIPPED_OVERLAP if skipped else "")
    assert told is warned


def test_preparing_begins_as_early_as_it_took_before():
    pace = ahead.Pace()
    pace.learn(0.5, 1000)
    assert 0.6 < pace.lead(1000) <= ahead.MOST_SECONDS
    assert pace.lead(1) < 0.05  # one clock is held no longer than it must be
    slow = ahead.Pace()
    slow.learn(5.0, 1000)
    assert slow.lead(1000) == ahead.MOST_SECONDS
    for _ in range(50):
        slow.learn(0.1, 1000)
    assert slow.lead(1000) < 0.3  # a slow time is forgotten by and by
