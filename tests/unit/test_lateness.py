"""What a late scheduler still fires, and what it has missed."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

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
