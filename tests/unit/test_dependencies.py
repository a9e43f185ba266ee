"""Whether the jobs that a job depends on let it run, and until when it is worth waiting."""

from datetime import UTC, datetime, timedelta

import pytest

from nomaflow.clock import dependencies
from nomaflow.clock.dependencies import Standing, Verdict
from nomaflow.errors import NomaflowError
from nomaflow.job.spec import DependencySpec

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def wants(**fields):
    return [DependencySpec(job="x", **fields)]


def decide(standing, *, zone="UTC", due=NOON, **fields):
    found = {} if standing is None else {"x": standing}
    return dependencies.decide(wants(**fields), found, due, zone)


OK = Standing("succeeded", NOON - HOUR)


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (OK, None),
        (Standing("succeeded", NOON - HOUR, in_flight=True), None),  # the last end counts
        (Standing("failed", NOON - HOUR), "dependency-failed: x"),
        (Standing("partial", NOON - HOUR), "dependency-failed: x"),
        (Standing("aborted", NOON - HOUR), "dependency-failed: x"),
        (Standing("failed", NOON - HOUR, in_flight=True), "dependency-still-running: x"),
        (Standing(in_flight=True), "dependency-still-running: x"),
        (Standing(), "dependency-never-ran: x"),
        (None, "dependency-never-ran: x"),
    ],
)
def test_each_state_has_its_reason(standing, reason):
    assert decide(standing) == Verdict(reason)


@pytest.mark.parametrize(
    ("since", "age", "counts"),
    [
        ("24h", 23 * HOUR, True),
        ("24h", 25 * HOUR, False),
        ("today", 11 * HOUR, True),
        ("today", 13 * HOUR, False),
        ("30m", HOUR, False),
    ],
)
def test_a_success_may_be_too_old(since, age, counts):
    verdict = decide(Standing("succeeded", NOON - age), since=since)
    assert (verdict.reason is None) == counts
    if not counts:
        assert verdict.reason.startswith("dependency-never-ran: x (it has not succeeded ")


def test_today_is_a_day_of_the_schedules_zone():
    late = datetime(2026, 11, 25, 23, 30, tzinfo=UTC)  # 08:30 on the 26th in Tokyo
    success = Standing("succeeded", datetime(2026, 11, 25, 14, 30, tzinfo=UTC))  # 23:30 on the 25th
    assert decide(success, due=late, since="today").reason is None
    assert decide(success, due=late, since="today", zone="Asia/Tokyo").reason is not None


@pytest.mark.parametrize(
    ("by", "zone", "deadline"),
    [
        ("30m", "UTC", NOON + timedelta(minutes=30)),
        ("12:30", "UTC", NOON + timedelta(minutes=30)),
        ("12:00", "UTC", NOON),
        ("09:00", "UTC", NOON + 21 * HOUR),  # tomorrow's
        ("13:30", "Europe/Paris", NOON + timedelta(minutes=30)),
    ],
)
def test_it_waits_until_a_time_of_day_or_so_long(by, zone, deadline):
    assert decide(None, by=by, zone=zone) == Verdict("dependency-never-ran: x", deadline)
    assert decide(OK, by=by, zone=zone) == Verdict()


def test_it_waits_only_if_every_unmet_one_may_be_waited_for():
    x, y = DependencySpec(job="x", by="1h"), DependencySpec(job="y")
    verdict = dependencies.decide([x, y], {}, NOON, "UTC")
    assert verdict == Verdict("dependency-never-ran: x", None)
    y = DependencySpec(job="y", by="30m")
    verdict = dependencies.decide([x, y], {}, NOON, "UTC")
    assert verdict.deadline == NOON + timedelta(minutes=30)
    assert dependencies.decide([x, y], {"x": OK, "y": OK}, NOON, "UTC") == Verdict()


def test_a_time_of_day_that_the_clock_skips_still_comes():
    due = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # half an hour before the gap in Paris
    deadline = decide(None, due=due, by="02:30", zone="Europe/Paris").deadline
    assert due < deadline <= due + 2 * HOUR


@pytest.mark.parametrize("text", ["", "yesterday", "24:00", "9", "09:60", "-1h", "0s", "x" * 1000])
def test_what_is_no_time_is_refused_with_both_forms(text):
    with pytest.raises(NomaflowError, match=r"`by` must be a time of day such as `09:00`"):
        dependencies.read_by(text)
    with pytest.raises(NomaflowError, match="`since` must be `today` or a time such as `24h`"):
        dependencies.read_since(text)
