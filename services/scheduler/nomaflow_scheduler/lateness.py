"""What a late scheduler still fires and what it has missed; pure, with time as an argument.

A due time up to a minute late is merely late, and fires: that covers a restart, a standby taking
over, a database that was away for a moment. An older one was missed, and with `catch_up = "none"`
(the only choice in this version) it is recorded and never fired (S16).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from nomaflow import clocks

if TYPE_CHECKING:
    from datetime import datetime

    from nomaflow.store.schedules import ScheduleRow

GRACE = timedelta(seconds=60)
MOST_SINGLY = 1_000
"""More missed due times than this are one row with its ends and its count."""
PIECE = 2_000
"""Due times looked at in one go, so that a month of missed seconds keeps nobody waiting."""


@dataclass(frozen=True, slots=True)
class Passed:
    """Due times that are gone, in order, and the first one after them."""

    times: tuple[datetime, ...]
    next_fire_at: datetime | None


def is_missed(clock: ScheduleRow, now: datetime) -> bool:
    """Tell whether the clock's due time is too old to fire; the first fire of all never is."""
    if clock.next_fire_at is None or (clock.fire_on_start and clock.fire_count == 0):
        return False
    return clock.next_fire_at < now - GRACE


def passed(clock: ScheduleRow, now: datetime, most: int = PIECE) -> Passed:
    """List up to `most` due times that are missed at `now`."""
    times: list[datetime] = []
    at = clock.next_fire_at
    while at is not None and at < now - GRACE and len(times) < most:
        times.append(at)
        at = following(clock, at)
    return Passed(tuple(times), at)


def following(clock: ScheduleRow, after: datetime) -> datetime | None:
    """The clock's first due time strictly after an instant, whatever it may still fire."""
    return _following(clock.cron, clock.every_seconds, clock.timezone, after)


def next_after_fire(clock: ScheduleRow) -> datetime | None:
    """When the clock is due next once it has fired now; None when that was its last fire."""
    if clock.next_fire_at is None or (clock.max_fires and clock.fire_count + 1 >= clock.max_fires):
        return None
    return following(clock, clock.next_fire_at)


# Many jobs share one expression: a thousand of them due at once cost one calculation.
@lru_cache(maxsize=4096)
def _following(
    cron: str | None, every_seconds: float | None, timezone: str, after: datetime
) -> datetime | None:
    return clocks.next_due(cron, every_seconds, timezone, after)
