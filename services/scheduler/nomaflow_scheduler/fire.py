"""One tick: every due time becomes a run, or a row that says why it did not.

Any number of schedulers may tick at once: taking a due time is a unique row, so each is served
once, and who comes second finds nothing left to do.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from nomaflow import dispatch
from nomaflow.errors import NomaflowError
from nomaflow.job.problems import SpecErrors
from nomaflow.store import missed, schedules
from nomaflow_scheduler import lateness

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from nomaflow.broker.bell import Bell
    from nomaflow.store.database import Database
    from nomaflow.store.schedules import Due

log = structlog.get_logger(__name__)

AT_A_TIME = 500
"""Clocks read from the database in one look."""
TOGETHER = 8
"""Clocks served at the same time; each takes a connection of the pool."""

MISSED = (
    f"missed: no scheduler fired it within {lateness.GRACE.seconds} s of its time, and the "
    "schedule does not catch up"
)


@dataclass(frozen=True, slots=True)
class Ticked:
    """What a tick did: due times that became runs, and due times recorded as missed."""

    fired: int = 0
    missed: int = 0

    def __add__(self, other: Ticked) -> Ticked:
        """Add up."""
        return Ticked(self.fired + other.fired, self.missed + other.missed)


async def tick(db: Database, bell: Bell, *, at: datetime | None = None) -> Ticked:
    """Serve everything that is due at `at` (None: now, by the database's clock).

    A clock that cannot be served is left for the next tick and does not hold up the others; the
    first such error is raised at the end.
    """
    done = Ticked()
    left: dict[UUID, BaseException] = {}
    while due := await _due(db, at, left):
        outcomes = await _all(db, bell, due, at)
        for one, outcome in zip(due, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                left[one.schedule.id] = outcome
            else:
                done += outcome
    for error in left.values():
        raise error
    return done


async def _due(db: Database, at: datetime | None, left: dict[UUID, BaseException]) -> list[Due]:
    found = await schedules.due(db, at, AT_A_TIME + len(left))
    served = [one for one in found if one.schedule.id not in left]
    # What can still fire goes first: writing down a long gap takes its time.
    return sorted(served, key=lambda one: lateness.is_missed(one.schedule, at or one.now))


async def _all(
    db: Database, bell: Bell, due: Sequence[Due], at: datetime | None
) -> list[Ticked | BaseException]:
    room = asyncio.Semaphore(TOGETHER)

    async def serve(one: Due) -> Ticked:
        async with room:
            return await _serve(db, bell, one, at or one.now)

    return await asyncio.gather(*(serve(one) for one in due), return_exceptions=True)


async def _serve(db: Database, bell: Bell, due: Due, now: datetime) -> Ticked:
    if lateness.is_missed(due.schedule, now):
        return await _miss(db, due, now)
    try:
        started = await dispatch.fire(db, bell, due, lateness.next_after_fire(due.schedule))
    except (NomaflowError, SpecErrors, ValueError) as error:
        return await _refused(db, due, error)
    return Ticked(fired=int(started is not None))


async def _miss(db: Database, due: Due, now: datetime) -> Ticked:
    """Record due times that are too old to fire, and set the clock after them."""
    clock = due.schedule
    gone = lateness.passed(clock, now)
    try:
        async with db.transaction() as connection:
            gap = await missed.gap_before(connection, clock.id, gone.times[0])
            if gap is not None and lateness.following(clock, gap) == gone.times[0]:
                await missed.lengthen(connection, clock.id, gap, gone.times)
            elif len(gone.times) > lateness.MOST_SINGLY:
                await missed.add_gap(connection, clock.id, gone.times, MISSED)
            else:
                await missed.add(connection, clock.id, gone.times, MISSED)
            await missed.pass_over(connection, clock.id, gone.times[0], gone.next_fire_at)
    except missed.TakenError:
        return Ticked()
    log.warning(
        "due times missed",
        job=due.job_name,
        schedule=clock.name,
        count=len(gone.times),
        first=gone.times[0].isoformat(),
        last=gone.times[-1].isoformat(),
    )
    return Ticked(missed=len(gone.times))


async def _refused(db: Database, due: Due, error: Exception) -> Ticked:
    """Record a due time whose run could not be made, so that the clock goes on after it."""
    clock = due.schedule
    if clock.next_fire_at is None:
        return Ticked()
    following = lateness.following(clock, clock.next_fire_at)
    try:
        async with db.transaction() as connection:
            reason = f"missed: the run could not be made: {error}"
            await missed.add(connection, clock.id, (clock.next_fire_at,), reason)
            await missed.pass_over(connection, clock.id, clock.next_fire_at, following)
    except missed.TakenError:
        return Ticked()
    log.error(
        "due time could not be fired", job=due.job_name, schedule=clock.name, reason=str(error)
    )
    return Ticked(missed=1)
