"""What a late scheduler still fires, and what it has missed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import perf_counter
from uuid import UUID

import pytest

from nomaflow.store.schedules import ScheduleRow
from nomaflow_scheduler import lateness

ID = UUID(int=1)
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def clock(due, cron=None, every=None, **facts):
    known = {
        "id": ID,
        "job_id": ID,
        "name": "default",
        "cron": cron,
        "every_seconds": every,
        "timezone": "UTC",
        "params": {},
        "declared_enabled": True,
        "switched_on": True,
        "fire_on_start": False,
        "max_fires": 0,
        "preset": None,
        "next_fire_at": due,
        "last_fire_at": None,
        "fire_count": 0,
        "look_at": due,
    }
    return ScheduleRow(**(known | facts))


def test_a_due_time_is_late_for_a_minute_and_then_missed():
    at = clock(NOON, cron="0 12 * * *")
    assert not lateness.is_missed(at, NOON)
    assert not lateness.is_missed(at, NOON + timedelta(seconds=60))
    assert lateness.is_missed(at, NOON + timedelta(seconds=60, milliseconds=1))


def test_the_very_first_fire_on_start_is_never_missed():
    at = clock(NOON, every=3600.0, fire_on_start=True)
    later = NOON + timedelta(days=2)
    assert not lateness.is_missed(at, later)
    assert lateness.is_missed(clock(NOON, every=3600.0, fire_on_start=True, fire_count=1), later)


def test_missed_due_times_end_where_the_next_one_can_still_fire():
    at = clock(NOON, cron="*/10 * * * *")
    done = lateness.serve(at, NOON + timedelta(minutes=40, seconds=30))
    (gone,) = done.stretches
    assert gone.times == tuple(NOON + timedelta(minutes=m) for m in (0, 10, 20, 30))
    assert gone.outcome == "missed"
    assert done.fires == ()
    assert done.next_fire_at == NOON + timedelta(minutes=40)


def test_missed_intervals_keep_their_beat():
    at = clock(NOON, every=90.0)
    done = lateness.serve(at, NOON + timedelta(minutes=10))
    assert done.stretches[0].times == tuple(NOON + timedelta(seconds=90 * n) for n in range(6))
    assert done.next_fire_at == NOON + timedelta(minutes=9)


def test_only_a_piece_of_a_long_gap_is_looked_at():
    at = clock(NOON, cron="* * * * * *")
    done = lateness.serve(at, NOON + timedelta(days=30))
    assert len(done.stretches[0].times) == lateness.PIECE
    assert done.next_fire_at == NOON + timedelta(seconds=lateness.PIECE)


def test_what_is_on_time_fires():
    at = clock(NOON, cron="0 12 * * *")
    done = lateness.serve(at, NOON + timedelta(seconds=5))
    assert done == lateness.Served((), (lateness.Fire(NOON),), NOON + timedelta(days=1))


def absence(at, now, shut=lateness.open_always, postponed=lateness.at_once):
    """Serve a clock piece by piece until it is on time, as ticks do; all that was served."""
    served = []
    while lateness.is_missed(at, now):
        served.append(lateness.serve(at, now, shut, postponed))
        after = served[-1].next_fire_at
        at = replace(at, next_fire_at=after, look_at=after)
    return served


def times(served, outcome=None):
    return [at for one in served for part in one.stretches for at in part.times if
            outcome in {None, part.outcome}]  # fmt: skip


@pytest.mark.parametrize("away", [3_000, 5_000, 30_000])
def test_pieces_make_up_for_no_more_than_was_asked_for(away):
    at = clock(NOON, cron="* * * * * *", catch_up="all", catch_up_limit=1000)
    served = absence(at, NOON + timedelta(seconds=away))
    fires = [fire for one in served for fire in one.fires]
    assert all(fire.caught_up for fire in fires)
    assert len(fires) == 1000
    both = sorted([*times(served), *(fire.due_at for fire in fires)])
    assert both == [NOON + timedelta(seconds=n) for n in range(len(both))]


def test_what_is_made_up_for_may_lie_far_apart():
    at = clock(NOON, cron="* * * * *", catch_up="all", catch_up_limit=20,
               catch_up_window_seconds=40 * 86_400.0)  # fmt: skip
    served = absence(
        at,
        NOON + timedelta(days=30, seconds=30),
        shut=lambda due: None if (due.hour, due.minute) == (8, 0) else "calendar: c is closed",
    )
    fires = [fire.due_at for one in served for fire in one.fires]
    assert len(fires) == 20
    assert {(at.hour, at.minute) for at in fires} == {(8, 0)}
    assert fires == sorted(fires)
    assert len(times(served, "missed")) == 10
    assert len(times(served)) + 20 == 30 * 1440 + 1


def test_one_of_those_that_a_window_postpones_is_left_for_its_end():
    at = clock(NOON, cron="* * * * *")
    later = NOON + timedelta(hours=2)
    (one,) = absence(at, later + timedelta(seconds=30), postponed=lambda due: due < later)
    assert one.fires == (lateness.Fire(later - timedelta(minutes=1)),)
    assert {part.outcome for part in one.stretches} == {"skipped"}


@pytest.mark.parametrize("fields", [{}, {"catch_up": "last"}, {"catch_up": "all"}])
def test_a_month_of_seconds_is_looked_at_quickly(fields):
    at = clock(NOON, cron="* * * * * *", **fields)
    began = perf_counter()
    lateness.serve(at, NOON + timedelta(days=30))
    assert perf_counter() - began < 5  # a piece of it, however busy the machine


@pytest.mark.parametrize("away", [61.0, 1_000.0, 2_000.0, 2_030.0, 2_065.0, 30_000.0])
@pytest.mark.parametrize(("policy", "most"), [("last", 1), ("all", 10)])
def test_the_newest_is_made_up_for_whatever_the_pieces(away, policy, most):
    at = clock(NOON, cron="* * * * * *", catch_up=policy)
    now = NOON + timedelta(seconds=away)
    served = absence(at, now)
    fires = [fire for one in served for fire in one.fires]
    assert all(fire.caught_up for fire in fires)
    newest = [now - timedelta(seconds=n) for n in range(most)]
    assert [fire.due_at for fire in fires] == newest[::-1]
    assert len(times(served)) == away + 1 - most
    assert served[-1].next_fire_at == now + timedelta(seconds=1)


def test_a_narrow_window_takes_nothing_from_what_is_merely_late():
    at = clock(NOON, cron="*/10 * * * *", catch_up="last", catch_up_window_seconds=5.0)
    (one,) = absence(at, NOON + timedelta(minutes=40, seconds=30))
    assert one.fires == (lateness.Fire(NOON + timedelta(minutes=40), caught_up=True),)
    (one,) = absence(at, NOON + timedelta(minutes=41, seconds=30))
    assert one.fires == ()


def test_jitter_is_no_lateness():
    looked = NOON + timedelta(minutes=5)
    at = clock(NOON, cron="*/10 * * * *", catch_up="last", look_at=looked)
    one = lateness.serve(at, looked + timedelta(minutes=30))
    assert one.fires == (lateness.Fire(NOON + timedelta(minutes=30), caught_up=True),)
    one = lateness.serve(at, looked + timedelta(minutes=29, seconds=59))
    assert one.fires == (lateness.Fire(NOON + timedelta(minutes=20), caught_up=True),)
