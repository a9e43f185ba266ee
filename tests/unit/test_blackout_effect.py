"""What a blackout would do to a clock that already waits for the end of another one."""

from datetime import UTC, datetime, timedelta

from nomaflow.clock import blackout_effect
from nomaflow.clock.calendars import Action, Blackout
from nomaflow.clock.forecast import Clock, Closures

NOW = datetime(2026, 11, 25, 23, 4, 27, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_what_waits_already_is_no_fire_after_a_later_blackout():
    clock = Clock(
        job="load", name="default", cron="* * * * *", next_due=NOW + timedelta(seconds=33)
    )
    ends = NOW + 2 * MINUTE
    others = Closures(postponed={("load", "default"): ends})
    start = datetime(2026, 11, 26, tzinfo=UTC)
    dark = Blackout("b", start, start + 60 * MINUTE, ("load",), (), Action.SKIP)
    told = blackout_effect.of(dark, [clock], others, NOW, depends_on={}, stale_after_hours={})
    (one,) = told.clocks
    assert (one.skipped, one.first) == (60, start)
    assert one.fires_after == start + 60 * MINUTE
