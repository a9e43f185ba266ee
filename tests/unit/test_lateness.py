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
    gone = lateness.passed(at, NOON + timedelta(minutes=40, seconds=30))
    assert gone.times == tuple(NOON + timedelta(minutes=m) for m in (0, 10, 20, 30))
    assert gone.next_fire_at == NOON + timedelta(minutes=40)


def test_missed_intervals_keep_their_beat():
    at = clock(NOON, every=90.0)
    gone = lateness.passed(at, NOON + timedelta(minutes=10))
    assert gone.times == tuple(NOON + timedelta(seconds=90 * n) for n in range(6))
    assert gone.next_fire_at == NOON + timedelta(minutes=9)


def test_only_a_piece_of_a_long_gap_is_looked_at():
    at = clock(NOON, cron="* * * * * *")
    gone = lateness.passed(at, NOON + timedelta(days=30), most=100)
    assert len(gone.times) == 100
    assert gone.next_fire_at == NOON + timedelta(seconds=100)


def test_the_last_fire_of_all_leaves_no_next_one():
    assert lateness.next_after_fire(clock(NOON, every=2.0, max_fires=3, fire_count=1)) == (
        NOON + timedelta(seconds=2)
    )
    assert lateness.next_after_fire(clock(NOON, every=2.0, max_fires=3, fire_count=2)) is None
    assert lateness.next_after_fire(clock(None, every=2.0)) is None
