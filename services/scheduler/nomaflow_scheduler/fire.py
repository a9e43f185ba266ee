"""One tick: every due time becomes a run, or a row that says why it did not.

Any number of schedulers may tick at once: a clock is served under the lock on its job's row, and
taking a due time is a unique row, so each is served once and who comes second finds nothing left.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from nomaflow.store import due
from nomaflow_scheduler import batch, lateness
from nomaflow_scheduler.batch import Ticked

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from nomaflow.broker.bell import Bell
    from nomaflow.store.database import Database
    from nomaflow.store.due import Look

log = structlog.get_logger(__name__)

__all__ = ["Ticked", "tick"]

AT_A_TIME = 2_000
"""What is read from the database in one look."""
TOGETHER = 3
"""Batches at the same time; each takes a connection of the pool."""
BATCH = 400
"""Clocks of one batch that are on time."""
LATE_BATCH = 20
"""Clocks of one batch that have missed due times: each may have many."""

PATIENCE = 2
"""So many times a clock that somebody else holds is left to them, then it is waited for."""
PAUSE_SECONDS = 0.02

Key = tuple["UUID", "datetime | None"]


async def tick(db: Database, bell: Bell, *, at: datetime | None = None) -> Ticked:
    """Serve everything that is due at `at` (None: now, by the database's clock).

    A clock that cannot be served is left for the next tick and does not hold up the others; the
    first such error is raised at the end.
    """
    if at is None:
        coming = await due.coming(db)
        if not coming.is_due:
            return Ticked()  # by far the cheapest question, and at rest the only one
        at = coming.now  # one moment for the whole tick, so that an absence ends where it ends
    done = Ticked()
    left: dict[Key, BaseException] = {}
    held: Counter[Key] = Counter()
    while looks := await _looks(db, at, left):
        outcomes = await _all(db, bell, looks, at, held)
        for look, error in outcomes.failed:
            left[_key(look)] = error
        done += outcomes.ticked
        held.update(_key(look) for look in outcomes.held_up)
        if len(outcomes.held_up) == len(looks):
            await asyncio.sleep(PAUSE_SECONDS)  # another scheduler is about to commit
    for error in left.values():
        raise error
    return done


@dataclass(slots=True)
class Outcomes:
    """What serving some looks came to."""

    ticked: Ticked = field(default_factory=Ticked)
    failed: list[tuple[Look, BaseException]] = field(default_factory=list)
    held_up: list[Look] = field(default_factory=list)


async def _all(
    db: Database, bell: Bell, looks: Sequence[Look], at: datetime | None, held: Counter[Key]
) -> Outcomes:
    """Serve in batches; what somebody else held more than once is waited for, one by one."""
    outcomes, room = Outcomes(), asyncio.Semaphore(TOGETHER)
    stubborn = [look for look in looks if held[_key(look)] >= PATIENCE]
    free = [look for look in looks if held[_key(look)] < PATIENCE]

    async def serve(part: Sequence[Look], *, wait: bool) -> None:
        async with room:
            await _serve(db, bell, part, at, outcomes, wait=wait)

    async with asyncio.TaskGroup() as group:
        for part in _batches(free, at):
            group.create_task(serve(part, wait=False))
        for look in stubborn:
            group.create_task(serve([look], wait=True))
    return outcomes


async def _serve(
    db: Database,
    bell: Bell,
    looks: Sequence[Look],
    at: datetime | None,
    outcomes: Outcomes,
    *,
    wait: bool,
) -> None:
    """Serve a batch; when one of it spoils it, each on its own."""
    try:
        done = await batch.serve(db, bell, looks, at, wait=wait)
    except Exception as error:  # noqa: BLE001  one of them is the cause, the others are well
        if len(looks) == 1:
            outcomes.failed.append((looks[0], error))
            return
        log.warning("a batch is served one by one", error=type(error).__name__, size=len(looks))
        for look in looks:
            await _serve(db, bell, [look], at, outcomes, wait=True)
    else:
        outcomes.ticked += done.ticked
        outcomes.held_up += done.held_up


async def _looks(db: Database, at: datetime | None, left: dict[Key, BaseException]) -> list[Look]:
    found = await due.looks(db, at, AT_A_TIME + len(left))
    return [look for look in found if _key(look) not in left]


def _key(look: Look) -> Key:
    return look.schedule_id, look.due_at


def _batches(looks: Sequence[Look], at: datetime | None) -> Iterator[Sequence[Look]]:
    """Part what is due: what can still fire goes first, the clocks of one job go together."""
    late = {look.job_id for look in looks if look.look_at < (at or look.now) - lateness.GRACE}
    fresh = [look for look in looks if look.job_id not in late]
    yield from _parted(fresh, BATCH)
    yield from _parted((look for look in looks if look.job_id in late), LATE_BATCH)


def _parted(looks: Iterable[Look], size: int) -> Iterator[Sequence[Look]]:
    part: list[Look] = []
    for look in sorted(looks, key=lambda look: look.job_id):
        if len(part) >= size and look.job_id != part[-1].job_id:
            yield part
            part = []
        part.append(look)
    if part:
        yield part
